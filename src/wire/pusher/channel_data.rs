//! The data of a user that the application has signed: `channel_data` of a presence channel, and `user_data` of a
//! sign-in.

use crate::wire::json;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The longest data of a user, in bytes.
pub const MAX_DATA: usize = 10_240;

/// A user, as the application describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedUser<'a> {
    /// The id. A number is written as text.
    pub id: String,
    /// The information about the user, as JSON.
    pub info: Option<&'a str>,
}

/// The text does not describe a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadUser {
    /// The text is not a JSON object, or it does not have an id.
    #[error("the data must be a JSON object with the id of the user, a text or a number")]
    NoId,
    /// The text is too long.
    #[error("the data of a user may have at most {MAX_DATA} bytes")]
    TooLong,
}

#[derive(Deserialize)]
struct ChannelData<'a> {
    #[serde(borrow)]
    user_id: &'a RawValue,
    #[serde(borrow, default)]
    user_info: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct UserData<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(borrow, default)]
    user_info: Option<&'a RawValue>,
}

/// The id as text. A number is the text that was sent, because large ones lose digits as numbers.
fn id(json: &RawValue) -> Result<String, BadUser> {
    let text = json::text_of(json.get());
    let is_number = || json.get().starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let text = text.or_else(|| is_number().then(|| json.get().to_owned()));
    text.filter(|text| !text.is_empty()).ok_or(BadUser::NoId)
}

/// Reads `channel_data`: `{"user_id":…,"user_info":…}`.
///
/// # Errors
///
/// The text does not describe a user.
pub fn channel_data(text: &str) -> Result<SignedUser<'_>, BadUser> {
    let data: ChannelData<'_> = read(text)?;
    Ok(SignedUser { id: id(data.user_id)?, info: data.user_info.map(RawValue::get) })
}

/// Reads `user_data`: `{"id":…,"user_info":…}`.
///
/// # Errors
///
/// The text does not describe a user.
pub fn user_data(text: &str) -> Result<SignedUser<'_>, BadUser> {
    let data: UserData<'_> = read(text)?;
    Ok(SignedUser { id: id(data.id)?, info: data.user_info.map(RawValue::get) })
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, BadUser> {
    if text.len() > MAX_DATA {
        return Err(BadUser::TooLong);
    }
    serde_json::from_str(text).map_err(|_| BadUser::NoId)
}
