//! What duplex clients command: subscribe, unsubscribe, publish, ping.

use super::pump::Pump;
use crate::cursor::{Cursor, Start};
use crate::message::{Channel, ClientId, Draft};
use crate::serve::App;
use crate::serve::access::authorizer::{Action, Question, Term};
use crate::serve::access::credentials::Asker;
use crate::serve::access::renewal::Lease;
use crate::serve::limits::memory::Loan;
use crate::serve::publishing::parse::{self, Publication};
use crate::serve::routes::publish;
use crate::transport::params::{self, Params, too_many_channels};
use crate::transport::{ApiError, Code, Control};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

/// How long a `ref` may be: it is held until its command is answered.
const REFERENCE_BYTES: usize = 256;

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "ref")]
    reference: Option<&'a RawValue>,
    #[serde(borrow, default)]
    token: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Subscription<'a> {
    #[serde(borrow, default)]
    channels: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    cursor: Option<Cow<'a, str>>,
    #[serde(default)]
    last: Option<i64>,
    #[serde(borrow, default)]
    client: Option<Cow<'a, str>>,
}

/// What is to be done for a command beyond what the pump was told.
pub enum Outcome {
    /// It is answered.
    Done,
    /// This one is to be appended, and answered then. The memory that it takes, or that there is none for it.
    Publish(Vec<Draft>, Option<String>, Result<Loan, ApiError>),
    /// It was so large that the connection ends.
    TooLarge,
}

/// A connection's commands.
pub struct Commands {
    /// Who is at the other end. A command with a token makes it its holder, from then on.
    asker: Arc<Asker>,
    /// Whether the subscription's client id was named, and is none that we have made up: credentials may be bound to it.
    client_named: bool,
    /// Whether a position was given or channels were named: from then on there is no other.
    position_fixed: bool,
    channels_named: bool,
    /// The `last` of a URL without channels: it counts where the first are named.
    last: Option<u16>,
}

impl Commands {
    /// Commands of raw TCP, which has no URL.
    pub fn new(asker: Arc<Asker>) -> Commands {
        Commands { asker, client_named: false, position_fixed: false, channels_named: false, last: None }
    }

    /// Commands behind a URL with these parameters; whether a client id was among them.
    pub fn behind(asker: Arc<Asker>, params: &Params, client_named: bool) -> Commands {
        let channels_named = !params.channels.is_empty();
        let position_fixed = channels_named || !params.begins_later();
        // It is 1000 at most.
        let last = params.last.map(|last| u16::try_from(last).unwrap_or(u16::MAX));
        Commands { asker, client_named, position_fixed, channels_named, last }
    }

    /// Carries out one command and answers it through the pump. An error is the command's alone.
    pub async fn carry_out(&mut self, app: &App, pump: &mut Pump, text: &[u8]) -> Outcome {
        let mut reference = None;
        match self.try_carry_out(app, pump, text, &mut reference).await {
            Ok(outcome) => outcome,
            Err(refusal) => {
                app.refused.count(refusal.code);
                pump.say(&Control::Error { reference: reference.as_deref(), error: &refusal });
                if refusal.code == Code::TooLarge { Outcome::TooLarge } else { Outcome::Done }
            }
        }
    }

    async fn try_carry_out(
        &mut self,
        app: &App,
        pump: &mut Pump,
        text: &[u8],
        reference: &mut Option<String>,
    ) -> Result<Outcome, ApiError> {
        let text = std::str::from_utf8(text).map_err(|_| ApiError::new(Code::NotUtf8, "a command is UTF-8"))?;
        parse::object(text)?;
        let head: Head<'_> = serde_json::from_str(text).map_err(|error| bad_command(&error))?;
        if let Some(json) = head.reference {
            if json.get().len() > REFERENCE_BYTES {
                return Err(ApiError::new(Code::BadRequest, format!("ref is at most {REFERENCE_BYTES} bytes")));
            }
            // Streams are made of lines, and JSON may hold line breaks between its tokens.
            *reference = Some(crate::wire::json::payload(json.get()));
        }
        let answer = reference.as_deref();
        app.rates.request(self.asker.ip)?;
        let asker = match &head.token {
            Some(token) => Arc::new(self.asker.commanding(token)),
            None => self.asker.clone(),
        };
        // Any JSON, so that a command of no known type is answered by its `ref`, too.
        let kind = head.kind.and_then(|kind| crate::wire::json::text_of(kind.get()));
        match kind.as_deref() {
            Some("subscribe") => {
                let cursor = self.subscribe(app, pump, text, asker).await?;
                pump.say(&Control::Ack { reference: answer, cursor: Some(cursor), id: None });
            }
            Some("unsubscribe") => {
                let cursor = unsubscribe(pump, text)?;
                pump.say(&Control::Ack { reference: answer, cursor: Some(cursor), id: None });
            }
            Some("publish") => {
                let publication: Publication<'_> =
                    serde_json::from_str(text).map_err(|error| parse::bad_json(&error))?;
                let draft = publication.into_draft(app.settings.max_message)?;
                let mut loan = app.budget.loan();
                // Before anybody is asked: that may take time.
                if let Err(refusal) = loan.set(draft.payload.as_str().len()) {
                    return Ok(Outcome::Publish(Vec::new(), reference.take(), Err(refusal)));
                }
                let client = pump.subscription().client().cloned();
                let mut drafts = vec![draft];
                publish::authorize(app, &asker, client, &mut drafts).await?;
                self.asker = asker;
                return Ok(Outcome::Publish(drafts, reference.take(), Ok(loan)));
            }
            Some("ping") => pump.say(&Control::Pong { reference: answer }),
            _ => {
                let known = "the type of a command is subscribe, unsubscribe, publish or ping";
                return Err(ApiError::new(Code::UnknownCommand, known));
            }
        }
        Ok(Outcome::Done)
    }

    async fn subscribe(
        &mut self,
        app: &App,
        pump: &mut Pump,
        text: &str,
        asker: Arc<Asker>,
    ) -> Result<Cursor, ApiError> {
        let command: Subscription<'_> = serde_json::from_str(text).map_err(|error| bad_command(&error))?;
        let channels = parse_channels(&command.channels)?;
        let start: Option<Start> = command.cursor.as_deref().map(str::parse).transpose()?;
        let last = command.last.map(|last| params::last(&last.to_string())).transpose()?;
        let client: Option<ClientId> = command.client.as_deref().map(str::parse).transpose()?;
        if (start.is_some() || last.is_some()) && self.position_fixed {
            let rule = "a connection has one cursor; cursor and last count where the first channels are named";
            return Err(ApiError::new(Code::CursorFixed, rule));
        }
        let subscription = pump.subscription();
        let most = app.settings.limits.channels;
        let new = channels.iter().filter(|channel| !subscription.reads(channel)).count();
        if subscription.channels() + new > most {
            return Err(too_many_channels(most));
        }
        // A client is who it says first.
        let known = pump.subscription().client().filter(|_| self.client_named).cloned();
        let named = if self.channels_named { known.clone() } else { client.or_else(|| known.clone()) };
        let (action, asker_) = (Action::Subscribe, Asker::clone(&asker));
        let question = Question { action, channels: channels.clone(), client: named.clone(), asker: asker_ };
        let grant = app.authorizer.ask(question).await?;
        // Nothing has been changed up to here: a command is carried out whole or not at all.
        let named = named.or(grant.client);
        if named != known
            && let Some(client) = &named
        {
            app.hub.left_polling(&channels, client);
            pump.subscription().set_client(client.clone());
        }
        self.client_named = named.is_some();
        if grant.term != Term::Endless && pump.permission().is_none() {
            pump.lease(Some(Lease::new(&app.authorizer, named)));
        }
        if let Some(lease) = pump.permission() {
            lease.add(&channels, grant.term, &asker);
            // A newer token also prolongs what an older one had allowed.
            if let (Term::Ends(end), false) = (grant.term, Arc::ptr_eq(&asker, &self.asker))
                && let Some((covered, term)) = app.authorizer.covered(&asker, lease.ending_before(end))
            {
                lease.add(&covered, term, &asker);
            }
        }
        self.asker = asker;
        let subscription = pump.subscription();
        for channel in &channels {
            subscription.add(channel);
        }
        if !self.position_fixed {
            subscription.start(start.unwrap_or(Start::Latest), last.or(self.last.map(usize::from)));
        }
        (self.position_fixed, self.channels_named) = (true, true);
        // Raw TCP begins here: hello, then the ack.
        let cursor = subscription.cursor();
        pump.hello();
        Ok(cursor)
    }
}

fn unsubscribe(pump: &mut Pump, text: &str) -> Result<Cursor, ApiError> {
    let command: Subscription<'_> = serde_json::from_str(text).map_err(|error| bad_command(&error))?;
    let subscription = pump.subscription();
    let channels = parse_channels(&command.channels)?;
    for channel in &channels {
        subscription.remove(channel);
    }
    let cursor = subscription.cursor();
    if let Some(lease) = pump.permission() {
        channels.iter().for_each(|channel| lease.remove(channel));
    }
    Ok(cursor)
}

fn parse_channels(names: &[Cow<'_, str>]) -> Result<Vec<Channel>, ApiError> {
    if names.is_empty() {
        return Err(ApiError::new(Code::BadChannel, "channels is a list of at least one channel"));
    }
    let mut channels = names.iter().map(|name| name.parse()).collect::<Result<Vec<Channel>, _>>()?;
    // Each once, in the order named: a name that comes twice is one channel, also to the limit.
    let mut seen = HashSet::with_capacity(channels.len());
    channels.retain(|channel| seen.insert(channel.clone()));
    Ok(channels)
}

fn bad_command(error: &serde_json::Error) -> ApiError {
    if error.is_data() {
        let place = format!("line {} column {}", error.line(), error.column());
        return ApiError::new(Code::BadRequest, format!("a field of the command is not of its type at {place}"));
    }
    parse::bad_json(error)
}
