//! The subscriptions of a connection. Each has an id that the client has chosen, and several may be to one destination.

use crate::message::Channel;

/// A subscription.
#[derive(Clone)]
pub struct Subscription {
    /// The id that the client has chosen.
    pub id: String,
    /// The destination, as the client has named it.
    pub destination: String,
    /// The channel of the destination.
    pub channel: Channel,
    /// Whether the client acknowledges messages.
    pub acks: bool,
}

/// The subscriptions of a connection.
#[derive(Clone, Default)]
pub struct Subscriptions {
    list: Vec<Subscription>,
    /// The bytes of their names.
    bytes: usize,
}

impl Subscription {
    fn bytes(&self) -> usize {
        size_of::<Subscription>() + self.id.len() + self.destination.len() + self.channel.as_str().len()
    }
}

impl Subscriptions {
    /// The approximate memory that they take. The envelope has a copy.
    pub fn size(&self) -> usize {
        2 * self.bytes
    }

    /// The number of subscriptions.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The number of subscriptions to a channel.
    pub fn of(&self, channel: &Channel) -> usize {
        self.list.iter().filter(|subscription| subscription.channel == *channel).count()
    }

    /// Adds a subscription. Returns whether its id was free.
    pub fn add(&mut self, subscription: Subscription) -> bool {
        let is_free = self.list.iter().all(|other| other.id != subscription.id);
        if is_free {
            self.bytes += subscription.bytes();
            self.list.push(subscription);
        }
        is_free
    }

    /// Removes a subscription, and returns it with whether no other one has its channel.
    pub fn remove(&mut self, id: &str) -> Option<(Subscription, bool)> {
        let index = self.list.iter().position(|subscription| subscription.id == id)?;
        let removed = self.list.remove(index);
        self.bytes -= removed.bytes();
        let is_last = self.list.iter().all(|other| other.channel != removed.channel);
        Some((removed, is_last))
    }

    /// Each subscription.
    pub fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.list.iter()
    }
}
