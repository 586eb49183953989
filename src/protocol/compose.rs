//! Requests to backends, written anew from what was parsed: one space, no NUL, no surplus token.
