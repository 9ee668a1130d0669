//! What the load client, the floors and the Rust peers of the benchmark share.

pub mod clock;
pub mod feed;
pub mod frame;
pub mod handshake;
pub mod hist;
pub mod marker;
pub mod nats;
pub mod reader;
pub mod track;
