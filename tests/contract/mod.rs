//! The contract of every transport over both logs, through every door: plain, TLS, HTTP/2. The tests find a transport
//! in `GET /info` and read it by the type of its response, so the contract also applies to a transport that is added
//! later.

/// Makes a test of each rule through each door: a rule in `over_both_logs` takes a [`Log`](crate::support::Log) and
/// runs with each log, and a rule in `once` takes nothing.
macro_rules! through_every_door {
    ($(over_both_logs { $($rule:ident)* })? $(once { $($single:ident)* })?) => {
        through_every_door! { @door plain Plain { $($($rule)*)? } { $($($single)*)? } }
        through_every_door! { @door tls Tls { $($($rule)*)? } { $($($single)*)? } }
        through_every_door! { @door http2 Http2 { $($($rule)*)? } { $($($single)*)? } }
    };
    (@door $module:ident $door:ident { $($rule:ident)* } { $($single:ident)* }) => {
        mod $module {
            #[allow(unused_imports, reason = "a file may have no rule over both logs, or no other")]
            use crate::support::{Door, Log, door::through};
            mod memory {
                $(#[tokio::test] async fn $rule() {
                    super::through(super::Door::$door, super::super::$rule(super::Log::Memory)).await;
                })*
            }
            mod redis {
                $(#[tokio::test] async fn $rule() {
                    super::through(super::Door::$door, super::super::$rule(super::Log::Redis)).await;
                })*
            }
            $(#[tokio::test] async fn $single() { through(Door::$door, super::$single()).await; })*
        }
    };
}

mod cursors;
mod http;
mod messages;
mod refusals;
mod streams;
