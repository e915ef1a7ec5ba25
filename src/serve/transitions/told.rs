//! What the consumers know: a copy of the record in the store, as texts, and the changes that the store does not have
//! yet.
//!
//! The text of a channel that is occupied is `o <channel> <id of the transition>`, and that of a member is
//! `m <channel> <user as JSON>`. A name of a channel has no space, so the texts of a channel are neighbours.

use crate::message::{Channel, User};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// How many texts the record has at most, and the bytes of them.
const MAX_TEXTS: usize = 500_000;
const MAX_BYTES: usize = 128 << 20;

/// What a transition is about: a channel, or a user in a channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Whether the channel has readers.
    Readers(Channel),
    /// Whether the user with this id is a member.
    Member(Channel, Box<str>),
}

/// What the consumers know.
#[derive(Default)]
pub struct Told {
    texts: BTreeSet<String>,
    bytes: usize,
    /// The texts that the store has to add (true) or to remove (false).
    unsaved: BTreeMap<String, bool>,
}

/// The text of an occupied channel.
pub fn occupied_text(channel: &Channel, id: &str) -> String {
    format!("o {channel} {id}")
}

/// The text of a member.
pub fn member_text(channel: &Channel, data: &str) -> String {
    format!("m {channel} {data}")
}

/// The last part of a text: the id, or the user as JSON.
pub fn content(text: &str) -> &str {
    text.splitn(3, ' ').nth(2).unwrap_or_default()
}

fn channel_in(text: &str) -> Option<Channel> {
    Channel::of_server(text.split(' ').nth(1)?).ok()
}

impl Told {
    /// What the record says, as the store has it.
    pub fn read(texts: Vec<String>) -> Told {
        let bytes = texts.iter().map(String::len).sum();
        Told { texts: texts.into_iter().collect(), bytes, unsaved: BTreeMap::new() }
    }

    /// How many texts there are.
    pub fn count(&self) -> usize {
        self.texts.len()
    }

    /// How many texts the store has.
    pub fn saved_count(&self) -> usize {
        let added = self.unsaved.values().filter(|is_added| **is_added).count();
        self.texts.len() + self.unsaved.len() - 2 * added
    }

    /// How many changes the store lacks.
    pub fn unsaved_count(&self) -> usize {
        self.unsaved.len()
    }

    /// Whether one more text fits.
    pub fn has_room(&self) -> bool {
        self.texts.len() < MAX_TEXTS && self.bytes < MAX_BYTES
    }

    /// Notes that consumers were told something.
    pub fn apply(&mut self, add: Option<String>, remove: Option<String>) {
        if let Some(text) = remove
            && self.texts.remove(&text)
        {
            self.bytes -= text.len();
            self.note(text, false);
        }
        if let Some(text) = add
            && self.texts.insert(text.clone())
        {
            self.bytes += text.len();
            self.note(text, true);
        }
    }

    fn note(&mut self, text: String, is_added: bool) {
        // A change and its opposite are no change.
        if self.unsaved.remove(&text).is_none() {
            self.unsaved.insert(text, is_added);
        }
    }

    /// Makes the store get all texts again.
    pub fn save_all(&mut self) {
        self.unsaved = self.texts.iter().map(|text| (text.clone(), true)).collect();
    }

    /// At most `most` of the changes that the store does not have: texts that it adds, and texts that it removes.
    pub fn unsaved(&self, most: usize) -> (Vec<String>, Vec<String>) {
        let (mut add, mut remove) = (Vec::new(), Vec::new());
        for (text, is_added) in self.unsaved.iter().take(most) {
            if *is_added { add.push(text.clone()) } else { remove.push(text.clone()) }
        }
        (add, remove)
    }

    /// Notes that the store has these changes.
    pub fn saved(&mut self, add: &[String], remove: &[String]) {
        for text in add.iter().chain(remove) {
            self.unsaved.remove(text);
        }
    }

    /// Whether the store lacks changes.
    pub fn has_unsaved(&self) -> bool {
        !self.unsaved.is_empty()
    }

    /// The text about a subject, if there is one.
    pub fn text(&self, subject: &Subject) -> Option<&str> {
        match subject {
            Subject::Readers(channel) => self.starting_with(&format!("o {channel} ")).next(),
            Subject::Member(channel, id) => {
                let user = User::new(id, None).ok()?;
                let quoted = user.data().strip_suffix("null}")?;
                self.starting_with(&member_text(channel, quoted)).next()
            }
        }
    }

    /// The occupied channels in a range of names.
    pub fn occupied<'a>(&'a self, after: &str, upto: Option<&'a str>) -> impl Iterator<Item = Channel> + 'a {
        let from = if after.is_empty() { "o ".to_owned() } else { format!("o {after}!") };
        let texts =
            self.texts.range(from..).take_while(|text| text.starts_with("o ")).filter_map(|text| channel_in(text));
        texts.take_while(move |channel| upto.is_none_or(|upto| channel.as_str() <= upto))
    }

    /// The first channel, after a name, that has members.
    pub fn next_with_members(&self, after: &str) -> Option<Channel> {
        let from = if after.is_empty() { "m ".to_owned() } else { format!("m {after}!") };
        self.texts.range(from..).next().filter(|text| text.starts_with("m ")).and_then(|text| channel_in(text))
    }

    /// The members of a channel, as JSON.
    pub fn members(&self, channel: &Channel) -> Vec<&str> {
        self.starting_with(&format!("m {channel} ")).map(content).collect()
    }

    /// Whether there is a member in any channel.
    pub fn has_members(&self) -> bool {
        self.next_with_members("").is_some()
    }

    fn starting_with<'a>(&'a self, prefix: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let prefix = prefix.to_owned();
        let range = (Bound::Included(prefix.clone()), Bound::Unbounded);
        self.texts.range(range).take_while(move |text| text.starts_with(&prefix)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Channel {
        name.parse().expect("a channel")
    }

    fn member(told: &Told, name: &str, id: &str) -> Option<String> {
        told.text(&Subject::Member(channel(name), id.into())).map(ToOwned::to_owned)
    }

    #[test]
    fn a_text_is_found_by_its_subject_alone() {
        let mut told = Told::default();
        let users = [("7", "1"), ("77", "2"), ("7\"", "{\"a b\":1}"), ("", "")];
        for (id, info) in users.iter().filter(|(id, _)| !id.is_empty()) {
            for name in ["a", "a-b", "ab"] {
                let user = User::new(id, Some(info)).expect("a user");
                told.apply(Some(member_text(&channel(name), user.data())), None);
            }
        }
        told.apply(Some(occupied_text(&channel("a"), "1")), None);
        told.apply(Some(occupied_text(&channel("a-b"), "2")), None);
        assert_eq!(member(&told, "a", "7").as_deref(), Some("m a {\"id\":\"7\",\"info\":1}"));
        assert_eq!(member(&told, "ab", "7\"").as_deref(), Some("m ab {\"id\":\"7\\\"\",\"info\":{\"a b\":1}}"));
        assert_eq!(member(&told, "a", "8"), None);
        assert_eq!((told.members(&channel("a")).len(), told.members(&channel("b")).len()), (3, 0));
        let text = told.text(&Subject::Readers(channel("a"))).expect("a text");
        assert_eq!((text, content(text)), ("o a 1", "1"));
        let names = |after: &str, upto| told.occupied(after, upto).map(|it| it.to_string()).collect::<Vec<_>>();
        assert_eq!(names("", None), ["a", "a-b"]);
        assert_eq!(names("a", None), ["a-b"]);
        assert_eq!(names("", Some("a")), ["a"]);
        let mut after = String::new();
        let mut with_members = Vec::new();
        while let Some(next) = told.next_with_members(&after) {
            after = next.to_string();
            with_members.push(after.clone());
        }
        assert_eq!(with_members, ["a", "a-b", "ab"]);
    }

    #[test]
    fn the_store_gets_each_change_once() {
        let mut told = Told::read(vec!["o a 1".into(), "o b 1".into()]);
        assert!(!told.has_unsaved());
        told.apply(Some("o c 1".into()), None);
        told.apply(None, Some("o a 1".into()));
        told.apply(Some("o d 1".into()), None);
        told.apply(None, Some("o d 1".into()));
        let (add, remove) = told.unsaved(10);
        assert_eq!((&add, &remove), (&vec!["o c 1".to_owned()], &vec!["o a 1".to_owned()]));
        told.saved(&add, &remove);
        assert!(!told.has_unsaved());
        told.save_all();
        assert_eq!(told.unsaved(10).0, ["o b 1", "o c 1"]);
        assert_eq!((told.count(), told.bytes), (2, 10));
    }
}
