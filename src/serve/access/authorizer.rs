//! Who may read and publish what. One place for every transport and for publishing.

use super::credentials::Asker;
use super::keys::Keys;
use super::tokens::Tokens;
use super::webhook::{Answer, Application};
use crate::message::{Channel, ClientId, Pattern, unmatched};
use crate::serve::limits::connections::network;
use crate::transport::{ApiError, Code};
use std::net::IpAddr;
use tokio::time::Instant;

/// What somebody wants to do with channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Read them.
    Subscribe,
    /// Write to them.
    Publish,
}

impl Action {
    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Subscribe => "subscribe",
            Action::Publish => "publish",
        }
    }
}

/// A question, whole: an answer counts for exactly this.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Question {
    /// What for.
    pub action: Action,
    /// Which channels, in order.
    pub channels: Vec<Channel>,
    /// The client id that was named.
    pub client: Option<ClientId>,
    /// Who.
    pub asker: Asker,
}

/// How a permission ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// Never.
    Endless,
    /// Then it is to be asked for again.
    Until(Instant),
    /// Then it is over: nothing that is known can prolong it.
    Ends(Instant),
}

/// Who publishes: whose rate it counts to, and whose idempotency keys these are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Publisher {
    /// Who has a server key: one of the operator's own programs.
    Server,
    /// The `sub` of a token.
    Subject(String),
    /// Nobody in particular, at an address.
    Address(IpAddr),
    /// The same, where nobody is asked who he is.
    Anybody(IpAddr),
}

impl Publisher {
    /// The scope of idempotency keys. The kinds cannot be taken for one another.
    pub fn scope(&self) -> String {
        match self {
            Publisher::Server => "key".to_owned(),
            Publisher::Subject(subject) => format!("sub:{subject}"),
            Publisher::Address(ip) => format!("ip:{}", network(*ip)),
            Publisher::Anybody(_) => String::new(),
        }
    }
}

/// What was allowed.
#[derive(Clone, Debug)]
pub struct Grant {
    /// For how long.
    pub term: Term,
    /// Who it is, for who publishes.
    pub publisher: Publisher,
    /// The client id that the credentials are bound to.
    pub client: Option<ClientId>,
}

impl Grant {
    fn endless(publisher: Publisher) -> Grant {
        Grant { term: Term::Endless, publisher, client: None }
    }
}

/// Decides.
pub enum Authorizer {
    /// Anybody may do anything; who comes near is decided by [`super::origin::Access`].
    Open,
    /// What these say, and nothing else.
    Guarded(Box<Guard>),
}

/// All that permissions can come from, in the order in which they are asked.
#[derive(Default)]
pub struct Guard {
    /// Who may do everything.
    pub keys: Keys,
    /// What everybody may read.
    pub public: Vec<Pattern>,
    /// Who brings his permission along.
    pub tokens: Option<Tokens>,
    /// Who knows the rest.
    pub application: Option<Application>,
}

impl Authorizer {
    /// Whether there is nothing to ask.
    pub fn is_open(&self) -> bool {
        matches!(self, Authorizer::Open)
    }

    /// Whether this may be done with *all* these channels.
    ///
    /// # Errors
    ///
    /// `unauthorized` where credentials are missing or no good, `forbidden` where they do not allow it (named:
    /// the channels) or where the application did not answer.
    ///
    /// # Cancel safety
    ///
    /// A question to the application goes on when this is dropped, and its answer is kept.
    pub async fn ask(&self, question: Question) -> Result<Grant, ApiError> {
        match self {
            Authorizer::Open => Ok(Grant::endless(Publisher::Anybody(question.asker.ip))),
            Authorizer::Guarded(guard) => guard.ask(question).await,
        }
    }

    /// Whether somebody may see what concerns others: channels, figures.
    ///
    /// # Errors
    ///
    /// It takes a server key: `unauthorized`, or `forbidden` where there is none.
    pub fn admit_keeper(&self, asker: &Asker) -> Result<(), ApiError> {
        let (code, text) = match self {
            Authorizer::Guarded(guard) if guard.keys.is_empty() => {
                (Code::Forbidden, "this server tells that to nobody here; --admin-listen or --publish-key would")
            }
            Authorizer::Guarded(guard) if !guard.is_keeper(asker) => {
                (Code::Unauthorized, "this wants a server key, as Authorization: Bearer; or open it at --admin-listen")
            }
            _ => return Ok(()),
        };
        Err(ApiError::new(code, text))
    }

    /// Those of the channels that the asker's token allows to read, and until when.
    pub fn covered(&self, asker: &Asker, channels: Vec<Channel>) -> Option<(Vec<Channel>, Term)> {
        let Authorizer::Guarded(guard) = self else { return None };
        let tokens = guard.tokens.as_ref()?;
        let permission = tokens.read(asker.token()?).ok()?;
        let refused: Vec<Channel> = permission.refused(Action::Subscribe, &channels).into_iter().cloned().collect();
        let covered = channels.into_iter().filter(|channel| !refused.contains(channel)).collect();
        Some((covered, Term::Ends(permission.until)))
    }
}

impl Guard {
    fn is_keeper(&self, asker: &Asker) -> bool {
        asker.bearer().is_some_and(|key| self.keys.has(key))
    }

    async fn ask(&self, question: Question) -> Result<Grant, ApiError> {
        let Question { action, mut channels, client, asker } = question;
        if self.is_keeper(&asker) {
            return Ok(Grant::endless(Publisher::Server));
        }
        let by_address = Publisher::Address(asker.ip);
        channels.sort_unstable();
        channels.dedup();
        if action == Action::Subscribe {
            channels = unmatched(&self.public, &channels).into_iter().cloned().collect();
            if channels.is_empty() {
                return Ok(Grant::endless(by_address));
            }
        }
        if let (Some(tokens), Some(token)) = (&self.tokens, asker.token()) {
            let permission = tokens.read(token)?;
            // Who publishes names no client: `exclude` may be anybody.
            if let (Action::Subscribe, Some(bound), Some(named)) = (action, &permission.client, &client)
                && bound != named
            {
                return Err(ApiError::new(Code::Forbidden, "the token is bound to another client id"));
            }
            refuse(&permission.refused(action, &channels))?;
            let publisher = permission.subject.map_or(by_address, Publisher::Subject);
            return Ok(Grant { term: Term::Ends(permission.until), publisher, client: permission.client });
        }
        let Some(application) = &self.application else {
            let names = names(&channels.iter().collect::<Vec<_>>());
            return Err(ApiError::new(Code::Unauthorized, format!("this needs credentials: {names}")));
        };
        let (wanted, asker) = (channels.clone(), asker.with_token(None));
        match application.ask(Question { action, channels, client, asker }).await {
            Answer::Allowed { channels, until } => {
                refuse(&wanted.iter().filter(|channel| !channels.contains(channel.as_str())).collect::<Vec<_>>())?;
                Ok(Grant { term: Term::Until(until), publisher: by_address, client: None })
            }
            Answer::Unauthorized => Err(ApiError::new(Code::Unauthorized, "the application wants you to sign in")),
            Answer::Refused => Err(ApiError::new(Code::Forbidden, "the application does not allow it")),
            Answer::Failed => Err(ApiError::passing(Code::Forbidden, "the application that decides did not answer")),
        }
    }
}

/// Refuses the whole, for these.
fn refuse(refused: &[&Channel]) -> Result<(), ApiError> {
    if refused.is_empty() {
        return Ok(());
    }
    Err(ApiError::new(Code::Forbidden, format!("not allowed: {}", names(refused))))
}

fn names(channels: &[&Channel]) -> String {
    channels.iter().map(|channel| channel.as_str()).collect::<Vec<_>>().join(", ")
}
