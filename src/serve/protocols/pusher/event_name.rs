//! The names of events in the log. A Pusher application may use names that streams of native readers use for themselves.
//! Such a name has its first byte escaped in the log, and so does a name that looks like an escaped one.

use crate::message::{BadEvent, Event, unescape};
use std::borrow::Cow;

/// The name of an event in the log.
///
/// # Errors
///
/// The text is not the name of an event.
pub fn in_log(name: &str) -> Result<Event, BadEvent> {
    match name.parse() {
        Err(BadEvent::Reserved) => escaped(name).parse(),
        Ok(_) if name.starts_with('=') => escaped(name).parse(),
        parsed => parsed,
    }
}

/// The name with its first byte escaped, which is an ASCII character.
fn escaped(name: &str) -> String {
    let (first, rest) = name.split_at(1);
    format!("={:02X}{rest}", first.as_bytes()[0])
}

/// The name that clients get for an event of the log.
pub fn of_clients(event: &Event) -> Cow<'_, str> {
    let name = event.as_str();
    let first = name.get(..3).filter(|first| first.starts_with('='));
    match first.and_then(unescape) {
        Some(first) => Cow::Owned(format!("{first}{}", &name[3..])),
        None => Cow::Borrowed(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_streams_are_escaped() {
        for (name, known) in [
            ("error", "=65rror"),
            ("open", "=6Fpen"),
            ("bye", "=62ye"),
            ("=65rror", "=3D65rror"),
            ("=", "=3D"),
            ("message", "message"),
            ("App\\Events\\A", "App\\Events\\A"),
        ] {
            let event = in_log(name).expect("a name");
            assert_eq!((event.as_str(), &*of_clients(&event)), (known, name));
        }
        for bad in ["", "a\nb", &"x".repeat(201)] {
            assert!(in_log(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn clients_get_the_name_that_was_sent(name in "[=A-F0-9a-z é]{1,6}|hello|gap|heartbeat") {
            let event = in_log(&name).expect("a name");
            prop_assert_eq!(&*of_clients(&event), &name);
        }
    }
}
