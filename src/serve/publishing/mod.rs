//! Publications: parsing and appending.

pub mod parse;
