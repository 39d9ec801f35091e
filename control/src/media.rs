//! A call's media: ports, legs, latches and the flows they want.

pub mod bandwidth;
pub mod leg;
pub mod ours;
pub mod plan;
pub mod port;
pub mod session;
pub mod stream;
pub mod told;

pub use leg::{Both, LegSettings, Mode, Side};
pub use port::{Pools, Usage};
pub use session::{Heard, Learned, Refusal, Session};
pub use stream::{Change, SideView, Silence, StreamView};
