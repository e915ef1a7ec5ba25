//! Reads the application's answer. The answer is either a decision or a problem.

use crate::message::User;
use crate::serve::application::client::Reply;
use crate::serve::application::problem::{Form, Problem};
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::sync::Arc;

/// Seconds for which an answer without a `ttl` is valid, and the longest `ttl`.
const DEFAULT_TTL: f64 = 60.0;
const MAX_TTL: f64 = 86_400.0;

/// The decision of the application.
#[derive(Debug, PartialEq)]
pub enum Decision {
    /// 200: these channels are allowed, for this number of seconds, and this is the user.
    Allowed(HashSet<String>, f64, Option<Arc<User>>),
    /// 401: the user is not signed in.
    Unauthorized,
    /// 403: the application does not allow the action.
    Refused,
}

/// The form in which the application has to answer.
const FORM: Form = Form {
    rule: r#"allow with 200 and {"channels":["…"],"ttl":60}, refuse with 401 or 403"#,
    marks: &["\"channels\":"],
    other_json: "JSON without a list of channels, or with a ttl that is not a number",
};

#[derive(Deserialize)]
struct Body {
    channels: HashSet<String>,
    #[serde(default)]
    ttl: Option<f64>,
    #[serde(default)]
    user: Option<Box<RawValue>>,
}

/// Reads an answer.
///
/// # Errors
///
/// The answer is not a decision.
pub fn read(reply: &Reply) -> Result<Decision, Problem> {
    match reply.status {
        Some(StatusCode::UNAUTHORIZED) => return Ok(Decision::Unauthorized),
        Some(StatusCode::FORBIDDEN) => return Ok(Decision::Refused),
        _ => {}
    }
    let Body { channels, ttl, user } = FORM.object(reply)?;
    match ttl.unwrap_or(DEFAULT_TTL) {
        ttl if ttl >= 0.0 => {
            let user = user.filter(|user| user.get() != "null").map(|user| read_user(reply, &user)).transpose()?;
            Ok(Decision::Allowed(channels, ttl.clamp(1.0, MAX_TTL), user))
        }
        _ => Err(Problem::unusable(reply.came_with("JSON with a negative ttl"), FORM.rule)),
    }
}

fn read_user(reply: &Reply, json: &RawValue) -> Result<Arc<User>, Problem> {
    let fix = r#"name the user as {"id":"7","info":{…}}, with an id of at most 200 bytes, or leave it out"#;
    let unusable = |_| Problem::unusable(reply.came_with("JSON whose user has no usable id"), fix);
    User::parse(json.get()).map(Arc::new).map_err(unusable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &'static str) -> Result<Decision, Problem> {
        let status = StatusCode::from_u16(status).expect("a status");
        read(&Reply { status: Some(status), body: body.into() })
    }

    #[test]
    fn a_ttl_is_a_number_of_seconds() {
        for (ttl, seconds) in [
            ("60", 60.0),
            ("60.0", 60.0),
            ("6e1", 60.0),
            ("59.5", 59.5),
            ("0", 1.0),
            ("0.2", 1.0),
            ("null", 60.0),
            ("1e300", MAX_TTL),
            ("18446744073709551616", MAX_TTL),
        ] {
            let body = Box::leak(format!("{{\"channels\":[\"a\"],\"ttl\":{ttl}}}").into_boxed_str());
            assert_eq!(of(200, body), Ok(Decision::Allowed(HashSet::from(["a".to_owned()]), seconds, None)), "{ttl}");
        }
        for ttl in ["\"60\"", "-1", "-0.5", "[60]", "true", "1e999"] {
            let body = Box::leak(format!("{{\"channels\":[\"a\"],\"ttl\":{ttl}}}").into_boxed_str());
            assert!(of(200, body).is_err_and(|problem| problem.may_pass), "{ttl}");
        }
    }

    #[test]
    fn the_answer_may_name_the_user() {
        let user = |text: &str| {
            let body = Box::leak(format!("{{\"channels\":[\"a\"],\"user\":{text}}}").into_boxed_str());
            match of(200, body) {
                Ok(Decision::Allowed(_, _, user)) => Ok(user.map(|user| user.data().to_owned())),
                Ok(other) => panic!("{other:?}"),
                Err(problem) => Err(problem.may_pass),
            }
        };
        for (text, data) in [
            ("null", None),
            (r#"{"id":"7"}"#, Some(r#"{"id":"7","info":null}"#)),
            (r#"{"id":7,"info":{"name":"Ann"},"more":1}"#, Some(r#"{"id":"7","info":{"name":"Ann"}}"#)),
        ] {
            assert_eq!(user(text), Ok(data.map(str::to_owned)), "{text}");
        }
        for bad in ["7", "[]", "{}", r#"{"id":""}"#, r#"{"id":null}"#, r#"{"id":1.5}"#, r#"{"id":[7]}"#] {
            assert_eq!(user(bad), Err(true), "{bad}");
        }
    }

    #[test]
    fn what_came_is_named_and_not_repeated() {
        const LIST: &str = "{\"channels\":[\"a\"]}";
        let with_list = |text: &str| -> &'static str { Box::leak(format!("{text}{LIST}").into_boxed_str()) };
        for (status, body, came) in [
            (204, "", "status 204"),
            (301, "", "status 301"),
            (302, LIST, "status 302"),
            (404, "<html>secret", "status 404"),
            (405, "", "status 405"),
            (429, "", "status 429"),
            (500, LIST, "status 500"),
            (200, "", "an empty body"),
            (200, "secret", "a text that is not JSON"),
            (200, "{\"channels\":[\"a\"", "a text that is not JSON"),
            (200, "[\"a\"]", "JSON without a list of channels"),
            (200, "[[\"a\"],60]", "JSON without a list of channels"),
            (200, "{\"channels\":\"secret\"}", "JSON without a list of channels"),
            (200, "<!DOCTYPE html><p>secret", "an HTML page"),
            (200, with_list("\u{feff}"), "a byte order mark in front of the JSON"),
            (200, with_list("debug: secret\n"), "a text in front of the JSON"),
            (
                200,
                with_list("\nWarning: Undefined variable $secret in /x.php on line 3\n"),
                "a warning of PHP in front",
            ),
            (200, with_list("<br />\n<b>Warning</b>:  secret in <b>/x.php</b><br />\n"), "a warning of PHP in front"),
            (200, with_list("PHP Deprecated: secret\n"), "a warning of PHP in front"),
            (200, "<br />\n<b>Fatal error</b>:  Uncaught secret", "an error of PHP"),
        ] {
            let problem = of(status, body).expect_err("no decision");
            assert!(problem.came.contains(came), "{status} {body}: {problem:?}");
            assert!(!problem.came.contains("secret") && !problem.fix.contains("secret"), "{problem:?}");
            assert_eq!(problem.may_pass, status == 200 || status >= 500, "{problem:?}");
        }
    }

    #[test]
    fn refusals_are_decisions() {
        assert_eq!(of(401, ""), Ok(Decision::Unauthorized));
        assert_eq!(of(403, "<html>"), Ok(Decision::Refused));
    }
}
