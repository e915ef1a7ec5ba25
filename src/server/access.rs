//! Builds the parts of access control from the flags: origins, keys, tokens, and the application that authorizes.

use super::{StartError, bad_flag, descriptors};
use crate::config::{AccessFlags, BadConfig};
use crate::message::Pattern;
use crate::serve::{
    AccessMode, AccessRules, AllowedOrigins, Authorizer, Keys, OriginPolicy, SHORT_SECRET, Tokens, Webhook, secret_file,
};
use prometheus_client::registry::Registry;
use std::path::PathBuf;
use std::time::Duration;
use tracing::warn;

/// The server warns if a server key has fewer characters than this.
const SHORT_KEY: usize = 16;

/// Builds the rules for pages that may use the server, and for clients that may subscribe and publish. `needs_users`:
/// whether the server must know the users of public channels. `spelled`: the beginnings
/// of channels of apps that have their own keys; `None` if there are no apps.
pub fn access(
    flags: &AccessFlags,
    needs_users: bool,
    spelled: Option<Vec<String>>,
    metrics: &mut Registry,
) -> Result<(OriginPolicy, Authorizer), StartError> {
    let (mode, authorizer) = match flags.guarded_by() {
        Some(_) => {
            let rules = AccessRules { spelled: spelled.unwrap_or_default(), ..rules(flags, needs_users, metrics)? };
            (AccessMode::Guarded, Authorizer::Guarded(Box::new(rules)))
        }
        None if flags.open => (AccessMode::Open, Authorizer::Open),
        // The keys of apps are not credentials for native paths, so these are closed.
        None if spelled.is_some() => (AccessMode::Guarded, Authorizer::Guarded(Box::default())),
        None => (AccessMode::Loopback, Authorizer::Open),
    };
    let allow_origin = AllowedOrigins::parse(&flags.allow_origin)
        .map_err(|(value, rule)| bad_flag(&format!("--allow-origin {value}"), &rule))?;
    Ok((OriginPolicy { mode, allow_origin }, authorizer))
}

/// The rules that the flags set.
fn rules(flags: &AccessFlags, needs_users: bool, metrics: &mut Registry) -> Result<AccessRules, StartError> {
    let keys: Vec<String> = flags.publish_key.iter().map(|key| key.0.clone()).collect();
    if keys.iter().any(|key| key.len() < SHORT_KEY) {
        warn!(
            "--publish-key: a key of less than {SHORT_KEY} characters can be guessed; `openssl rand -hex 24` makes one"
        );
    }
    let public: Vec<Pattern> = flags.public.iter().map(|text| Pattern::new(text)).collect();
    if let Some(index) = public.iter().position(|pattern| !pattern.can_match()) {
        let rule = "use a channel's name, or a prefix with a * at its end; names that begin with ~ are reserved";
        let rule = format!("{}: {rule}", flags.public[index]);
        return Err(bad_flag("--public", &rule).into());
    }
    let timeout = Duration::from_secs(flags.authorize_timeout);
    let application =
        flags.authorize_url.clone().map(|url| Webhook::new(url, descriptors::application_calls(), timeout, metrics));
    let application = application
        .transpose()
        .map_err(|error| bad_flag("--authorize-url", &format!("https needs the system's certificates: {error}")))?;
    Ok(AccessRules {
        keys: Keys::new(keys),
        public,
        tokens: tokens(flags)?,
        application,
        needs_users,
        spelled: Vec::new(),
    })
}

/// Warns if a secret is so short that an attacker can guess it. An empty secret is an error.
pub fn warn_if_short(flag: &str, length: usize) {
    if (1..SHORT_SECRET).contains(&length) {
        warn!("{flag}: a secret of less than {SHORT_SECRET} bytes can be guessed; `openssl rand -hex 32` makes one");
    }
}

/// The verifier of tokens, if a flag sets one.
fn tokens(flags: &AccessFlags) -> Result<Option<Tokens>, BadConfig> {
    let read = |flag: &str, path: &PathBuf| {
        std::fs::read(path).map_err(|error| bad_flag(flag, &format!("{}: {error}", path.display())))
    };
    let by_secret = |flag: &str, secret: &[u8]| {
        warn_if_short(flag, secret.len());
        Tokens::by_secret(secret).map_err(|error| bad_flag(flag, &error))
    };
    if let Some(secret) = &flags.token_secret {
        return by_secret("--token-secret", secret.0.as_bytes()).map(Some);
    }
    if let Some(path) = &flags.token_secret_file {
        let content = read("--token-secret-file", path)?;
        return by_secret("--token-secret-file", secret_file::secret(&content)).map(Some);
    }
    let Some(path) = &flags.token_public_key else { return Ok(None) };
    let key = Tokens::by_public_key(&read("--token-public-key", path)?);
    key.map(Some).map_err(|error| bad_flag("--token-public-key", &format!("{}: {error}", path.display())))
}
