//! The names of the channels that emitters for Node and PHP `PUBLISH` to.

/// The namespace and the room in the name of a channel behind the key: `#/ns#` or `#/ns#room#`. Adapter 5.0.0 leaves the
/// last `#` out. `None` for `#emitter` of emitters 0.1 and 0.2, and for other names.
pub(super) fn parse(name: &str) -> Option<(&str, Option<&str>)> {
    let name = name.strip_prefix('#').filter(|name| name.starts_with('/'))?;
    let (namespace, room) = name.split_once('#').unwrap_or((name, ""));
    let room = room.strip_suffix('#').unwrap_or(room);
    Some((namespace, Some(room).filter(|room| !room.is_empty())))
}
