//! memcached's three protocols: requests from bytes ([`text`], [`meta`], [`binary`]), requests to bytes
//! ([`compose`]) and the frames of replies ([`reply`]).
//!
//! Parsers never copy: what they find borrows from the input. They take no more than one request per call
//! and say how many bytes it had. They know memcached 1.6.18's words for everything that is wrong.

pub mod answers;
pub mod base64;
pub mod binary;
mod commands;
pub mod compose;
#[cfg(test)]
mod generate;
pub mod meta;
pub mod naive;
pub mod number;
mod plain;
mod plain_meta;
mod plain_reply;
pub mod reply;
pub mod scan;
pub mod text;

#[cfg(test)]
mod tests;
