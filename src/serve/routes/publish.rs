//! Publishing: `POST /publish`, and what commands share with it. What a request says is read in [`publication`].

use super::channels::Census;
use super::response::{self, Reply};
use super::router::read_body;
use super::subscribe::last_field;
use crate::cursor::Cursor;
use crate::log::AppendError;
use crate::message::{Channel, ClientId, Draft};
use crate::serve::App;
use crate::serve::access::authorizer::{Action, Authorizer, Publisher, Question};
use crate::serve::access::credentials::Asker;
use crate::serve::http::peer::{Client, Handover};
use crate::serve::http::request::Request;
use crate::serve::metrics::delivery::Way;
use crate::serve::publishing::parse::{self, flag};
use crate::transport::{ApiError, Code};
use hyper::{HeaderMap, StatusCode, header};
use smallvec::SmallVec;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of a body in all.
const BODY_BYTES: usize = 1 << 20;

/// How long after an append has begun its answer waits for this node to have read what it appended, so that who
/// publishes and then polls reads what he wrote. The message is in the log whether or not.
const OWN_TAIL_WAIT: Duration = Duration::from_millis(500);

/// And how long at least, where the append itself has taken longer.
const OWN_TAIL_LEAST: Duration = Duration::from_millis(20);

/// Whether somebody may publish these, as many and now. Says in them whose they are.
///
/// # Errors
///
/// He may not, or too many for the time.
pub async fn authorize(
    app: &App,
    asker: &Asker,
    client: Option<ClientId>,
    drafts: &mut [Draft],
) -> Result<(), ApiError> {
    let publisher = match *app.authorizer {
        Authorizer::Open => Publisher::Anybody(asker.ip),
        Authorizer::Guarded(_) => {
            let channels = drafts.iter().map(|draft| draft.channel.clone()).collect();
            let question = Question { action: Action::Publish, channels, client, asker: asker.to_publish()? };
            app.authorizer.ask(question).await?.publisher
        }
    };
    app.rates.publish(&publisher, drafts.len())?;
    for key in drafts.iter_mut().filter_map(|draft| draft.key.as_mut()) {
        key.publisher = publisher.scope();
    }
    Ok(())
}

/// Appends drafts. They are queued at the first poll, in the order of first polls.
pub fn append(
    app: &Arc<App>,
    way: Way,
    drafts: Vec<Draft>,
) -> impl Future<Output = Result<Vec<Option<Cursor>>, ApiError>> + Send + 'static {
    let app = app.clone();
    async move {
        let began = Instant::now();
        let cursors = app.hub.log().append(drafts).await.map_err(|error| {
            let code = match error {
                AppendError::Unavailable(_) => Code::LogUnavailable,
                AppendError::OutcomeUnknown => Code::OutcomeUnknown,
            };
            app.meters.append_failed(code);
            ApiError::new(code, error.to_string())
        })?;
        app.meters.published(way, cursors.len(), began);
        if let Some(newest) = cursors.iter().flatten().max_by_key(|cursor| cursor.id) {
            app.hub.advance();
            if app.hub.has_reached(*newest) {
                return Ok(cursors);
            }
            // From its beginning, and not from here: of a pipeline's publishes only the first is polled, and each would
            // come here, and wait anew, when the one before is answered.
            let until = (began + OWN_TAIL_WAIT).max(Instant::now() + OWN_TAIL_LEAST);
            let _ = tokio::time::timeout_at(until, app.hub.reached(*newest)).await;
        }
        Ok(cursors)
    }
}

/// Answers `POST /publish`.
///
/// # Errors
///
/// Why nothing was appended, or that it is not known.
pub async fn answer(app: &Arc<App>, client: &Client, mut request: Request) -> Result<Reply, ApiError> {
    let most = BODY_BYTES.max(app.settings.max_message.saturating_mul(2));
    let body = read_body(app, &mut request, most).await?;
    let body = std::str::from_utf8(&body).map_err(|_| ApiError::new(Code::NotUtf8, "the body is not UTF-8"))?;
    let query = request.uri().query().unwrap_or_default();
    let publishing = Publishing::read(query, &kind(request.headers()), body, app.settings.max_message)?;
    let asker = asker(app, client, request.headers());
    let is_hidden_form = publishing.is_hidden_form;
    let published = publishing.carry_out(app, &asker, &client.handover()).await?;
    if is_hidden_form {
        return Ok(response::whole(StatusCode::OK, "text/plain; charset=utf-8", published));
    }
    Ok(response::json(StatusCode::OK, published))
}

/// The content type without its parameters, in small letters.
pub fn kind(headers: &HeaderMap) -> String {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Who publishes, but for a token in the query or a form.
pub fn asker(app: &App, client: &Client, headers: &HeaderMap) -> Asker {
    let by_cookie = !app.access.is_by_star(headers, client.forwarded_host());
    Asker::new(client.ip, "publish", headers, by_cookie)
}

/// What a request publishes, taken out of it.
pub struct Publishing {
    drafts: Vec<Draft>,
    /// Theirs, for the answer.
    channels: SmallVec<[Channel; 1]>,
    wants_counts: bool,
    token: Option<String>,
    is_hidden_form: bool,
}

impl Publishing {
    /// Reads it. `kind`: see [`kind`].
    ///
    /// # Errors
    ///
    /// The first that is not sound.
    pub fn read(query: &str, kind: &str, body: &str, max: usize) -> Result<Publishing, ApiError> {
        let query = parse::parse_query(query)?;
        let (drafts, is_hidden_form) = parse::drafts(&query, kind, body, max)?;
        let wants_counts = match query.iter().find(|(name, _)| name == "counts") {
            Some((_, value)) => flag("counts", value)?,
            None => false,
        };
        let form = is_hidden_form.then_some(body.as_bytes());
        let token = form.and_then(|form| last_field(form, None, "token"));
        let of_query = || query.iter().rfind(|(name, _)| name == "token").map(|(_, value)| value.to_string());
        Ok(Publishing {
            channels: drafts.iter().map(|draft| draft.channel.clone()).collect(),
            drafts,
            wants_counts,
            token: token.or_else(of_query),
            is_hidden_form,
        })
    }

    /// Appends it, if that is allowed, and says what is answered.
    ///
    /// # Errors
    ///
    /// Why nothing was appended, or that it is not known.
    pub async fn carry_out(self, app: &Arc<App>, asker: &Asker, handover: &Handover) -> Result<Vec<u8>, ApiError> {
        let Publishing { mut drafts, channels, .. } = self;
        // While the application or the log is slow, what waits for it grows with those who publish.
        let mut loan = app.budget.loan();
        loan.set(drafts.iter().map(|draft| draft.payload.as_str().len()).sum())?;
        let asker = asker.clone().with_token(self.token.as_deref());
        authorize(app, &asker, None, &mut drafts).await?;
        let cursors = handover.queueing(append(app, Way::Http, drafts)).await?;
        drop(loan);
        let census = if self.wants_counts { Some(Census::of(app, &channels).await) } else { None };
        Ok(published(&channels, &cursors, census.as_ref()))
    }
}

fn published(channels: &[Channel], cursors: &[Option<Cursor>], census: Option<&Census>) -> Vec<u8> {
    let mut out = String::with_capacity(32 + channels.len() * 128);
    out.push_str("{\"messages\":[");
    for (index, (channel, cursor)) in channels.iter().zip(cursors).enumerate() {
        out.push_str(if index > 0 { ",{" } else { "{" });
        if let Some(cursor) = cursor {
            out.push_str("\"id\":\"");
            out.push_str(cursor.text().as_str());
            out.push_str("\",");
        }
        out.push_str("\"channel\":\"");
        out.push_str(channel.as_str());
        out.push('"');
        if let Some(census) = census {
            out.push_str(&format!(",\"readers\":{}", census.readers(channel)));
        }
        out.push('}');
    }
    out.push(']');
    if let Some(census) = census {
        out.push_str(&format!(",\"complete\":{}", census.is_complete));
    }
    out.push('}');
    out.into_bytes()
}
