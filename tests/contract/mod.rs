//! The contract of every transport over both logs, through every door: plain, TLS, HTTP/2. A transport is found in
//! `GET /info` and read by the type of its response, so that one added later is held to all of this as it stands.

/// Makes a test of each rule through each door: `over_both_logs` those that take a [`Log`](crate::support::Log), with each
/// log, and `once` those that take nothing.
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
