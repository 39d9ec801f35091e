//! The engine: inputs in, effects out.
