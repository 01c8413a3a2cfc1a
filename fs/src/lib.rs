//! Package bytes in, file operations out.
//!
//! Data flows one way, and a module uses only those before it in this list:
//!
//! `worker` → `node` → `disk` → `package` → `store` → `slot` → `layer` → `overlay` → `volume` → `driver`
//!
//! **Invariant:** nothing here decides anything: no lifecycle, trust or retention rule lives in this crate, it
//! reads no environment variable and prints nothing. `slotfs-policy` decides, the `slotfs` crate carries out.

pub mod disk;
#[cfg(unix)]
pub mod driver;
pub mod layer;
pub mod node;
#[cfg(unix)]
pub mod overlay;
pub mod package;
pub mod slot;
pub mod store;
#[cfg(unix)]
pub mod volume;
pub mod worker;
