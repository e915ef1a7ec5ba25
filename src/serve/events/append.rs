//! Appends entries for the application.

use crate::message::Draft;
use crate::serve::metrics::delivery::PublishSource;
use crate::serve::publishing::service;
use crate::serve::state::ServerState;
use crate::transport::ApiError;
use std::sync::Arc;

/// Appends entries for the application.
///
/// # Errors
///
/// `log_unavailable` or `outcome_unknown`.
pub async fn append(state: &Arc<ServerState>, drafts: Vec<Draft>) -> Result<(), ApiError> {
    if !drafts.is_empty() {
        service::append(state, PublishSource::Hook, drafts).await?;
    }
    Ok(())
}
