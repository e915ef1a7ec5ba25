//! Credentials: the parts of a request that identify its user.

use super::cookies;
use super::keys::bearer;
use crate::transport::{ApiError, Code};
use hyper::header::{self, HeaderMap, HeaderValue};
use std::net::IpAddr;

/// The cookie that may contain a token.
const TOKEN_COOKIE: &str = "longtail_token";

/// The credentials of a request. The type has no `Debug`, so that secrets cannot get into a log.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// The client's address.
    pub ip: IpAddr,
    /// The transport's name, `publish` or `event`.
    pub transport: &'static str,
    /// The secrets. The secrets are boxed, because a connection that accepts commands keeps its credentials, and most
    /// credentials do not have secrets.
    secrets: Option<Box<Secrets>>,
}

#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Secrets {
    origin: Option<HeaderValue>,
    cookie: Option<HeaderValue>,
    authorization: Option<HeaderValue>,
    /// A token in the query, the form or a command.
    token: Option<Box<str>>,
    /// Whether the token came in a command. A command may also contain a server key, because a raw TCP client does not
    /// have headers.
    by_command: bool,
}

impl Secrets {
    fn size(&self) -> usize {
        let headers = [&self.origin, &self.cookie, &self.authorization].into_iter().flatten().map(HeaderValue::len);
        size_of::<Secrets>() + headers.sum::<usize>() + self.token.as_deref().map_or(0, str::len)
    }

    fn boxed(self) -> Option<Box<Secrets>> {
        (self != Secrets::default()).then(|| Box::new(self))
    }
}

impl Credentials {
    /// Reads the credentials in these headers. A browser sends two kinds of credentials for any page: cookies, and a
    /// password that it remembers (`Basic`). `by_cookie` says whether these two kinds count.
    pub fn new(ip: IpAddr, transport: &'static str, headers: &HeaderMap, by_cookie: bool) -> Credentials {
        // The value is a copy. The original points into the buffer of the whole head, so a stream would keep this
        // buffer until it ends.
        let own = |name| headers.get(name).and_then(|value| HeaderValue::from_bytes(HeaderValue::as_bytes(value)).ok());
        let secrets = Secrets {
            origin: own(header::ORIGIN),
            cookie: cookies::joined(headers).filter(|_| by_cookie),
            authorization: own(header::AUTHORIZATION).filter(|value| by_cookie || bearer(value).is_some()),
            ..Secrets::default()
        };
        Credentials { ip, transport, secrets: secrets.boxed() }
    }

    /// A client without secrets: raw TCP.
    pub fn anonymous(ip: IpAddr, transport: &'static str) -> Credentials {
        Credentials { ip, transport, secrets: None }
    }

    /// The approximate memory that the secrets take.
    pub fn size(&self) -> usize {
        self.secrets.as_deref().map_or(0, Secrets::size)
    }

    fn header(&self, header: impl Fn(&Secrets) -> Option<&HeaderValue>) -> Option<&HeaderValue> {
        self.secrets.as_ref().and_then(|secrets| header(secrets))
    }

    /// The page's origin. The origin policy has already allowed it.
    pub fn origin(&self) -> Option<&HeaderValue> {
        self.header(|secrets| secrets.origin.as_ref())
    }

    /// The request's cookies, if they count as credentials.
    pub fn cookie(&self) -> Option<&HeaderValue> {
        self.header(|secrets| secrets.cookie.as_ref())
    }

    /// The request's `Authorization`.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.header(|secrets| secrets.authorization.as_ref())
    }

    /// These credentials, together with the token of the query or the form. An empty token counts as missing.
    pub fn with_token(self, token: Option<&str>) -> Credentials {
        let token = token.filter(|token| !token.is_empty()).map(Into::into);
        let secrets = Secrets { token, ..self.secrets.map_or_else(Secrets::default, |secrets| *secrets) };
        Credentials { secrets: secrets.boxed(), ..self }
    }

    /// These credentials, together with the token of a command. It takes precedence over all credentials of the
    /// connection.
    pub fn with_command_token(&self, token: &str) -> Credentials {
        let mut credentials = self.clone().with_token(Some(token));
        credentials.secrets.get_or_insert_default().by_command = true;
        credentials
    }

    /// A possible server key. The server never accepts a key from a URL, because proxies on the path log URLs.
    pub fn bearer(&self) -> Option<&str> {
        match self.secrets.as_deref() {
            Some(Secrets { token: Some(token), by_command: true, .. }) => Some(token),
            _ => self.authorization().and_then(bearer),
        }
    }

    /// The token. A token in the query, the form or a command takes precedence over `Authorization`, and
    /// `Authorization` over the cookie.
    pub fn token(&self) -> Option<&str> {
        let named = self.secrets.as_ref().and_then(|secrets| secrets.token.as_deref());
        let cookie = || cookies::value(self.cookie()?, TOKEN_COOKIE);
        named.or_else(|| self.authorization().and_then(bearer)).or_else(cookie)
    }

    /// The credentials that count for publishing. A browser sends a cookie or a remembered password by itself, so they
    /// do not prove that the user wants to publish. The server has already checked the `Origin`, if the request has
    /// one. A request without an `Origin` may come from a form on any page (cross-site request forgery).
    ///
    /// # Errors
    ///
    /// `forbidden_origin`, if there are no other credentials.
    pub fn to_publish(&self) -> Result<Credentials, ApiError> {
        let Some(secrets) = self.secrets.as_ref().filter(|secrets| secrets.origin.is_none()) else {
            return Ok(self.clone());
        };
        let authorization = secrets.authorization.clone().filter(|value| bearer(value).is_some());
        let is_ambient = secrets.cookie.is_some() || (secrets.authorization.is_some() && authorization.is_none());
        if is_ambient && authorization.is_none() && secrets.token.is_none() {
            let rule = "publishing by a cookie or a password needs an Origin header of an allowed origin";
            return Err(ApiError::new(Code::ForbiddenOrigin, rule));
        }
        let secrets = Secrets { cookie: None, authorization, ..Secrets::clone(secrets) };
        Ok(Credentials { secrets: secrets.boxed(), ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(lines: &[(&'static str, &'static str)], by_cookie: bool) -> Credentials {
        let headers =
            lines.iter().map(|(name, value)| (header::HeaderName::from_static(name), HeaderValue::from_static(value)));
        Credentials::new(IpAddr::from([127, 0, 0, 1]), "poll", &headers.collect(), by_cookie)
    }

    #[test]
    fn what_a_browser_sends_by_itself_counts_only_where_it_may() {
        for (lines, ambient) in [
            (vec![("cookie", "longtail_token=a")], true),
            (vec![("authorization", "Basic YTpi")], true),
            (vec![("authorization", "Bearer a")], false),
        ] {
            let has =
                |credentials: &Credentials| credentials.cookie().is_some() || credentials.authorization().is_some();
            assert!(has(&credentials(&lines, true)), "{lines:?}");
            assert_eq!(has(&credentials(&lines, false)), !ambient, "{lines:?}");
        }
    }

    #[test]
    fn the_token_that_was_named_comes_first() {
        let all = [("cookie", "x=y; longtail_token=\"c\"; longtail_token=d"), ("authorization", "Bearer b")];
        assert_eq!(credentials(&all, true).with_token(Some("a")).token(), Some("a"));
        assert_eq!(credentials(&all, true).with_token(Some("")).token(), Some("b"));
        assert_eq!(credentials(&all[..1], true).token(), Some("c"));
        assert_eq!(credentials(&all[..1], false).token(), None);
        // A token in a URL cannot be a server key. A token in a command can be a server key.
        assert_eq!(credentials(&all, true).with_token(Some("a")).bearer(), Some("b"));
        assert_eq!(credentials(&all, true).with_command_token("a").bearer(), Some("a"));
    }

    #[test]
    fn a_cookie_alone_does_not_publish() {
        for ambient in [("cookie", "longtail_token=c"), ("authorization", "Basic YTpi")] {
            assert!(credentials(&[ambient], true).to_publish().is_err());
            let by_page = credentials(&[ambient, ("origin", "https://a.example")], true).to_publish();
            assert!(
                by_page
                    .is_ok_and(|credentials| credentials.cookie().is_some() || credentials.authorization().is_some())
            );
            let by_token = credentials(&[ambient], true).with_token(Some("a")).to_publish();
            assert!(
                by_token
                    .is_ok_and(|credentials| credentials.cookie().is_none() && credentials.authorization().is_none())
            );
        }
        assert!(credentials(&[("authorization", "Bearer a")], true).to_publish().is_ok());
        assert!(credentials(&[], true).to_publish().is_ok());
    }
}
