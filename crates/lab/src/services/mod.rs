//! Small real programs to be called, and the callers. They know nothing of the mesh: plain sockets and blocking
//! threads, as an unchanged application would use them.

mod call;
mod greeter;
mod http;
mod load;
mod partner;
mod shop;
mod tls;

pub use call::{Call, Outcome, call};
pub use greeter::greet;
pub use load::{Load, Totals, load};
pub use partner::{Partner, PartnerFiles};
pub use shop::Shop;
pub use tls::MeshClient;
