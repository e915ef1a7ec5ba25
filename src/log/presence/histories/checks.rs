//! The checks of a history: what must hold after each step, and at its end.

use super::*;

impl<B: Bench> World<'_, B> {
    /// Checks what must always hold.
    pub(super) async fn check(&mut self) -> Result<(), String> {
        let (changes, end) = self.bench.changes(self.folded_upto).await;
        let id = |data: &str| {
            let value: serde_json::Value = serde_json::from_str(data).expect("JSON");
            value["id"].as_str().expect("an id").to_owned()
        };
        for (index, (is_added, channel, data)) in changes.iter().enumerate() {
            let place = (channel.clone(), id(data));
            let fits = match is_added {
                true => self.folded.insert(place, data.clone()).is_none(),
                false => self.folded.remove(&place).as_ref() == Some(data),
            };
            if !fits {
                let index = self.folded_upto + index;
                return Err(format!("entry {index} does not follow: {is_added} {channel} {data}"));
            }
        }
        self.folded_upto += changes.len();
        for (index, channel) in self.channels.iter().enumerate() {
            let list = self.bench.members(channel).await.map_err(|_| "no list".to_owned())?;
            if list.cursor.id != end {
                return Err(format!("the cursor of the list of {channel} is not the end"));
            }
            let folded: BTreeSet<&String> =
                self.folded.iter().filter(|((of, _), _)| of == channel).map(|(_, data)| data).collect();
            if folded != list.members.iter().collect() || folded.len() != list.members.len() {
                return Err(format!("the list of {channel} is {:?}, and the entries say {folded:?}", list.members));
            }
            if list.members.len() > self.most && !self.may_exceed {
                return Err(format!("{} members in {channel}", list.members.len()));
            }
            self.check_users(index, &list.members)?;
        }
        Ok(())
    }

    pub(super) fn check_users(&self, channel: usize, members: &[String]) -> Result<(), String> {
        for of in 0..USERS {
            let is_member = members.iter().any(|data| data.starts_with(&format!("{{\"id\":\"user {of}\"")));
            let stays = self.stays.iter().filter(|stay| (stay.channel, stay.user) == (channel, of));
            let polls = self.polls.iter().filter(|poll| (poll.channel, poll.user) == (channel, of));
            let is_told = stays.clone().any(|stay| stay.outcome.is_none()) || polls.clone().any(|poll| poll.counts);
            let times = self.keep.get(&(channel, of)).into_iter().flat_map(BTreeMap::values);
            let (from, until) = times.fold((0, 0), |so_far, of| (so_far.0.max(of.0), so_far.1.max(of.1)));
            // What was lost, and what could not be told, is missing for a while.
            let is_calm = self.disturbed_at.is_none() && !self.is_away;
            if !is_member && is_calm && is_told {
                return Err(format!("user {of} has a connection in channel {channel} and is not a member"));
            }
            let was_member = self.info.contains_key(&(channel, of));
            if !is_member && is_calm && was_member && self.now < from {
                return Err(format!("user {of} was removed from channel {channel} {} ms too early", from - self.now));
            }
            if is_member && is_calm && stays.count() + polls.count() == 0 && self.now > until {
                return Err(format!("user {of} is still a member of channel {channel}"));
            }
        }
        Ok(())
    }

    /// Lets everything come to rest, and checks the result.
    pub(super) async fn end(&mut self) -> Result<(), String> {
        self.trace.push(format!("{} end", self.now));
        self.is_away = false;
        self.loses_answer = false;
        while let Some(index) = self.polls.iter().position(|poll| poll.is_loose) {
            self.answer(index);
        }
        self.pass(30_000).await?;
        let was_disturbed = self.disturbed_at.take().is_some();
        self.check().await?;
        for (index, channel) in self.channels.iter().enumerate() {
            let list = self.bench.members(channel).await.map_err(|_| "no list".to_owned())?;
            let present: BTreeSet<usize> =
                self.stays.iter().filter(|stay| stay.channel == index).map(|stay| stay.user).collect();
            let polling = self.polls.iter().filter(|poll| poll.channel == index);
            let all = present.iter().copied().chain(polling.map(|poll| poll.user));
            let expected: BTreeSet<String> = all.map(|of| format!("{{\"id\":\"user {of}\"")).collect();
            let ids = list.members.iter().map(|data| data.split(",\"info\"").next().unwrap_or_default().to_owned());
            let ids: BTreeSet<String> = ids.collect();
            if (self.most >= USERS || !was_disturbed) && ids != expected {
                return Err(format!("at the end {ids:?} are members of {channel}, and {expected:?} are there"));
            }
            for of in present.iter().filter(|_| self.is_plain) {
                let info = self.info.get(&(index, *of)).copied().unwrap_or_default();
                if !list.members.iter().any(|data| data == user(*of, info).data()) {
                    return Err(format!("the info of user {of} in {channel} is not {info}: {:?}", list.members));
                }
            }
        }
        Ok(())
    }
}
