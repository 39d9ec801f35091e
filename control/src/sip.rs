//! SIP (RFC 3261): which section lives in which file.

pub mod b2bua;
pub mod build;
pub mod dialog;
pub mod digest;
pub mod edit;
pub mod framing;
pub mod index;
pub mod name;
pub mod registrar;
pub mod transaction;
pub mod uri;
pub mod value;
pub mod verdict;
pub mod vocabulary;
