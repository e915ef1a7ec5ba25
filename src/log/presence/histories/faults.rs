//! The faults of a history: nodes that die, and stores that lose what they had.

use super::*;

impl<B: Bench> World<'_, B> {
    /// Ends a node without a word. Another one takes its place.
    pub(super) fn kill(&mut self, node: usize) {
        self.trace.push(format!("{} kill {node}", self.now));
        let (gone, stays) = std::mem::take(&mut self.stays).into_iter().partition(|stay| stay.node == node);
        self.stays = stays;
        let gone: Vec<Stay> = gone;
        self.untold[node].clear();
        let (gone_polls, polls) = std::mem::take(&mut self.polls).into_iter().partition(|poll| poll.node == node);
        self.polls = polls;
        let gone_polls: Vec<Poll> = gone_polls;
        for poll in gone_polls {
            // The deadline was set or moved on up to a second ago.
            let from = if poll.counts { self.now + GRACE.as_millis() as u64 - 1000 } else { 0 };
            let until = self.now + AWAY + GRACE.as_millis() as u64 + 2000;
            self.keep(poll.channel, poll.user, Some(poll.client), from, until);
        }
        for stay in gone {
            // The lease was renewed up to a second ago.
            self.keep(stay.channel, stay.user, None, self.now + 4000, self.now + 10_000);
        }
        self.nodes[node] = new_node(self.named);
        self.named += 1;
    }

    pub(super) async fn drain(&mut self, node: usize) {
        self.trace.push(format!("{} drain {node}", self.now));
        while let Some(index) = self.stays.iter().position(|stay| stay.node == node) {
            self.close(index);
        }
        while let Some(index) = self.polls.iter().position(|poll| poll.node == node) {
            self.answer(index);
        }
        self.tick(node).await;
        self.nodes[node] = new_node(self.named);
        self.named += 1;
    }

    /// Entries were lost, so all of them are read again.
    pub(super) fn forget_entries(&mut self) {
        self.folded.clear();
        self.folded_upto = 0;
        self.has_saved = None;
        self.disturb();
    }

    pub(super) fn disturb(&mut self) {
        self.disturbed_at = Some(self.now);
        self.may_exceed = true;
        self.is_plain = false;
    }
}
