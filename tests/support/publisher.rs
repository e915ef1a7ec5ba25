//! One try to publish, by HTTP or at Redis itself, and its outcome.

use super::Request;
use std::net::SocketAddr;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The message was acknowledged, with its id if the way returns one; or at least one node received it.
    Good(Option<String>),
    /// The message was refused, with the code or Redis's text; or no node received it.
    Refused(String),
    /// The message was sent and got no answer.
    Unknown,
}

pub async fn post(node: SocketAddr, query: &str, payload: &str) -> Outcome {
    let request = Request::post(&format!("/publish?{query}"), payload.as_bytes());
    match tokio::time::timeout(Duration::from_secs(15), request.try_send(node)).await {
        Ok(Some(answer)) if answer.status == 200 => {
            Outcome::Good(answer.json()["messages"][0]["id"].as_str().map(str::to_owned))
        }
        Ok(Some(answer)) if answer.error_code() == "log_unavailable" => Outcome::Refused("log_unavailable".to_owned()),
        _ => Outcome::Unknown,
    }
}

pub type Connection = redis::aio::MultiplexedConnection;

/// Runs one command that publishes. The slot keeps the connection for the next one, unless it has failed.
pub async fn command(slot: &mut Option<Connection>, url: &str, words: &[&str]) -> Outcome {
    if slot.is_none() {
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(1)))
            .set_response_timeout(Some(Duration::from_secs(3)));
        let Ok(client) = redis::Client::open(url) else { return Outcome::Refused("no such URL".to_owned()) };
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        match tokio::time::timeout(Duration::from_secs(2), connecting).await {
            Ok(Ok(connection)) => *slot = Some(connection),
            _ => return Outcome::Refused("no connection".to_owned()),
        }
    }
    let Some(connection) = slot else { return Outcome::Refused("no connection".to_owned()) };
    let answer: redis::RedisResult<redis::Value> = redis::cmd(words[0]).arg(&words[1..]).query_async(connection).await;
    match answer {
        Ok(redis::Value::Int(0)) => {
            *slot = None;
            Outcome::Refused("heard by nobody".to_owned())
        }
        Ok(redis::Value::Int(_)) => Outcome::Good(None),
        Ok(id) => Outcome::Good(redis::from_redis_value(id).ok()),
        Err(error) => {
            *slot = None;
            // If there is a code, Redis has refused the command.
            if error.code().is_some() { Outcome::Refused(error.to_string()) } else { Outcome::Unknown }
        }
    }
}
