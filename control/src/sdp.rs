//! SDP (RFC 8866) and offer/answer (RFC 3264): read the lines we act on, keep every other byte.

pub mod edit;
pub mod lines;
pub mod multipart;
pub mod understand;
