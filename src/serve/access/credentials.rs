//! Who asks: what of a request tells one user from another.

use super::keys::bearer;
use crate::transport::{ApiError, Code};
use hyper::header::{self, HeaderMap, HeaderValue};
use std::net::IpAddr;

/// The cookie that may hold a token.
const TOKEN_COOKIE: &str = "longtail_token";

/// Who asks: all of a request that tells one user from another. It has no `Debug`: credentials would end
/// in a log.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Asker {
    /// Where the connection comes from.
    pub ip: IpAddr,
    /// The transport's name, or `publish`.
    pub transport: &'static str,
    /// What he has brought. Boxed: a connection that takes commands keeps who is at its other end, and mostly nothing
    /// is asked of him.
    brought: Option<Box<Brought>>,
}

#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Brought {
    origin: Option<HeaderValue>,
    cookie: Option<HeaderValue>,
    authorization: Option<HeaderValue>,
    /// A token in the query, the form or a command.
    token: Option<Box<str>>,
    /// The same of a command, where a server key may stand, too: a raw TCP client has no headers.
    by_command: bool,
}

impl Brought {
    fn boxed(self) -> Option<Box<Brought>> {
        (self != Brought::default()).then(|| Box::new(self))
    }
}

impl Asker {
    /// Who sent these headers. `by_cookie`: whether cookies count, and a password that a browser remembers
    /// (`Basic`): it sends both for any page.
    pub fn new(ip: IpAddr, transport: &'static str, headers: &HeaderMap, by_cookie: bool) -> Asker {
        // Copied: a header's value is a part of the buffer that the whole head was read into, which a stream
        // would keep for its life.
        let own = |name| headers.get(name).and_then(|value| HeaderValue::from_bytes(HeaderValue::as_bytes(value)).ok());
        let brought = Brought {
            origin: own(header::ORIGIN),
            cookie: own(header::COOKIE).filter(|_| by_cookie),
            authorization: own(header::AUTHORIZATION).filter(|value| by_cookie || bearer(value).is_some()),
            ..Brought::default()
        };
        Asker { ip, transport, brought: brought.boxed() }
    }

    /// Somebody who brought nothing: raw TCP.
    pub fn unknown(ip: IpAddr, transport: &'static str) -> Asker {
        Asker { ip, transport, brought: None }
    }

    fn brought(&self, header: impl Fn(&Brought) -> Option<&HeaderValue>) -> Option<&HeaderValue> {
        self.brought.as_ref().and_then(|brought| header(brought))
    }

    /// The page's origin, which has been found to be allowed.
    pub fn origin(&self) -> Option<&HeaderValue> {
        self.brought(|brought| brought.origin.as_ref())
    }

    /// The request's cookies, where they may speak for the user.
    pub fn cookie(&self) -> Option<&HeaderValue> {
        self.brought(|brought| brought.cookie.as_ref())
    }

    /// The request's `Authorization`.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.brought(|brought| brought.authorization.as_ref())
    }

    /// The same with a token of the query or a form. An empty one is none.
    pub fn with_token(self, token: Option<&str>) -> Asker {
        let token = token.filter(|token| !token.is_empty()).map(Into::into);
        let brought = Brought { token, ..self.brought.map_or_else(Brought::default, |brought| *brought) };
        Asker { brought: brought.boxed(), ..self }
    }

    /// The same with a token of a command, which counts before all that came with the connection.
    pub fn commanding(&self, token: &str) -> Asker {
        let mut asker = self.clone().with_token(Some(token));
        asker.brought.get_or_insert_default().by_command = true;
        asker
    }

    /// What might be a server key. Never from a URL, which is logged by every proxy on the way.
    pub fn bearer(&self) -> Option<&str> {
        match self.brought.as_deref() {
            Some(Brought { token: Some(token), by_command: true, .. }) => Some(token),
            _ => self.authorization().and_then(bearer),
        }
    }

    /// The token, from wherever it came: the one that was named before the one that was sent along.
    pub fn token(&self) -> Option<&str> {
        let named = self.brought.as_ref().and_then(|brought| brought.token.as_deref());
        let cookie = || token_of(self.cookie()?.to_str().ok()?);
        named.or_else(|| self.authorization().and_then(bearer)).or_else(cookie)
    }

    /// The same for publishing, where what a browser sends by itself, a cookie or a password that it remembers, is no
    /// proof that the user wants it: without an `Origin`, which has been checked, it may be any page's form (cross-site
    /// request forgery).
    ///
    /// # Errors
    ///
    /// `forbidden_origin`, where there is nothing else.
    pub fn to_publish(&self) -> Result<Asker, ApiError> {
        let Some(brought) = self.brought.as_ref().filter(|brought| brought.origin.is_none()) else {
            return Ok(self.clone());
        };
        let authorization = brought.authorization.clone().filter(|value| bearer(value).is_some());
        let is_ambient = brought.cookie.is_some() || (brought.authorization.is_some() && authorization.is_none());
        if is_ambient && authorization.is_none() && brought.token.is_none() {
            let rule = "publishing by a cookie or a password needs an Origin header of an allowed origin";
            return Err(ApiError::new(Code::ForbiddenOrigin, rule));
        }
        let brought = Brought { cookie: None, authorization, ..Brought::clone(brought) };
        Ok(Asker { brought: brought.boxed(), ..self.clone() })
    }
}

/// The token among cookies (RFC 6265 §5.4). Of two the first counts, which is the one of the longer path.
fn token_of(cookies: &str) -> Option<&str> {
    let pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
    let value = pairs.filter(|(name, _)| *name == TOKEN_COOKIE).map(|(_, value)| value.trim_matches('"')).next();
    value.filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(lines: &[(&'static str, &'static str)], by_cookie: bool) -> Asker {
        let headers =
            lines.iter().map(|(name, value)| (header::HeaderName::from_static(name), HeaderValue::from_static(value)));
        Asker::new(IpAddr::from([127, 0, 0, 1]), "poll", &headers.collect(), by_cookie)
    }

    #[test]
    fn what_a_browser_sends_by_itself_counts_only_where_it_may() {
        for (lines, ambient) in [
            (vec![("cookie", "longtail_token=a")], true),
            (vec![("authorization", "Basic YTpi")], true),
            (vec![("authorization", "Bearer a")], false),
        ] {
            let has = |asker: &Asker| asker.cookie().is_some() || asker.authorization().is_some();
            assert!(has(&asker(&lines, true)), "{lines:?}");
            assert_eq!(has(&asker(&lines, false)), !ambient, "{lines:?}");
        }
    }

    #[test]
    fn the_token_that_was_named_comes_first() {
        let all = [("cookie", "x=y; longtail_token=\"c\"; longtail_token=d"), ("authorization", "Bearer b")];
        assert_eq!(asker(&all, true).with_token(Some("a")).token(), Some("a"));
        assert_eq!(asker(&all, true).with_token(Some("")).token(), Some("b"));
        assert_eq!(asker(&all[..1], true).token(), Some("c"));
        assert_eq!(asker(&all[..1], false).token(), None);
        // In a URL it is no server key; in a command it may be one.
        assert_eq!(asker(&all, true).with_token(Some("a")).bearer(), Some("b"));
        assert_eq!(asker(&all, true).commanding("a").bearer(), Some("a"));
    }

    #[test]
    fn a_cookie_alone_does_not_publish() {
        for ambient in [("cookie", "longtail_token=c"), ("authorization", "Basic YTpi")] {
            assert!(asker(&[ambient], true).to_publish().is_err());
            let by_page = asker(&[ambient, ("origin", "https://a.example")], true).to_publish();
            assert!(by_page.is_ok_and(|asker| asker.cookie().is_some() || asker.authorization().is_some()));
            let by_token = asker(&[ambient], true).with_token(Some("a")).to_publish();
            assert!(by_token.is_ok_and(|asker| asker.cookie().is_none() && asker.authorization().is_none()));
        }
        assert!(asker(&[("authorization", "Bearer a")], true).to_publish().is_ok());
        assert!(asker(&[], true).to_publish().is_ok());
    }
}
