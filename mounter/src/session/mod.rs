//! One live mount of a work environment: started on demand, shared, cleared after a crash.

pub mod place;
pub mod program;
pub mod record;
pub mod request;
pub mod wire;
