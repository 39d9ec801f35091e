//! A conference, by itself.
pub mod envelope;
pub mod floor;
pub mod legacy;
pub mod seen;
pub mod view;
