//! `slotfs keygen`: a new pair of keys for signing packages.
//!
//! **Invariant:** a private key that is there is not replaced before somebody has said so.

use std::path::PathBuf;

use serde::Serialize;
use slotfs_fs::package::keys::{KeyPair, PRIVATE_FILE, PUBLIC_FILE};

use super::confirm;
use super::context::Context;
use super::failure::Failure;

/// Make a pair of keys for signing packages
///
/// Writes flavor-private.key and flavor-public.key, the files that FlavorPack's own tools make and read, and prints where
/// they are. The private key is for nobody but you: who has it can sign in your name. Who puts the public key into their
/// folder of trusted keys, under a name that ends in .pub, trusts packages signed with the private one.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where to write them; made when missing
    #[arg(long, value_name = "DIR", default_value = "keys")]
    out_dir: PathBuf,
    /// Do not ask before keys that are there are replaced
    #[arg(short, long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was made.
#[derive(Debug, Serialize)]
struct Report {
    private_key: String,
    public_key: String,
    /// SHA-256 of the public key.
    fingerprint: String,
}

/// Carries the command out.
///
/// # Errors
/// There are keys already that nobody allows to replace, or the disk refuses.
pub fn run(arguments: &Arguments, context: &Context) -> Result<u8, Failure> {
    let folder = &arguments.out_dir;
    let found = [PRIVATE_FILE, PUBLIC_FILE].map(|name| folder.join(name));
    let found = found.iter().find(|path| path.symlink_metadata().is_ok());
    if let Some(path) = found {
        let what = "and nothing can be signed with a key that is replaced";
        confirm::replace(path, what, arguments.yes, &context.output)?;
    }
    let key = KeyPair::generate()?;
    let (private, public) = key.write(folder, found.is_some())?;
    let report = Report {
        private_key: private.display().to_string(),
        public_key: public.display().to_string(),
        fingerprint: key.fingerprint().to_string(),
    };
    if arguments.json {
        context.output.json(&report)?;
    } else {
        let text = format!(
            "private key  {}\npublic key   {}\nfingerprint  {}\n",
            report.private_key, report.public_key, report.fingerprint
        );
        context.output.data(&text)?;
    }
    Ok(0)
}
