//! Further names for files: `link(2)`.

use std::sync::Arc;

use super::copy_up::Need;
use super::look::{check_name, needs_look};
use super::{Entry, FsError, NodeId, Volume, lock};
use crate::node::Kind;

impl Volume {
    /// `link(2)`. Counts a reference.
    ///
    /// # Errors
    /// `NotPermitted` for a directory, `Exists`, `NotFound`, `NameTooLong`, `ReadOnly`, or what the upper's disk
    /// reports.
    pub fn link(&self, node: NodeId, parent: NodeId, name: &[u8]) -> Result<Entry, FsError> {
        let upper = self.writable_upper()?;
        check_name(name)?;
        let node = self.hold(node)?;
        if node.kind == Kind::Directory {
            return Err(FsError::NotPermitted);
        }
        loop {
            let view = self.live_directory(parent)?;
            if self.find(parent, name)?.is_some() {
                return Err(FsError::Exists);
            }
            self.check_writable(&node)?;
            self.check_writable_name(parent, name)?;
            self.copy_up(&view.node, Need::Attributes)?;
            self.copy_up(&node, Need::Attributes)?;
            let Some(_names) = self.names_if_unchanged(&[&view]) else { continue };
            let directory = self.upper_directory(parent)?;
            let spot = self.upper_spot(&node)?;
            if needs_look(&node) {
                self.mark_impure(parent, &directory)?;
            }
            if directory.stat(name)?.is_some() {
                // A whiteout is there: the link takes its place in one step.
                let prepared = upper.temporary();
                upper.work().link(&spot, prepared.name())?;
                prepared.publish(&directory, name)?;
            } else {
                directory.link(&spot, name)?;
            }
            self.touched(parent);
            let status = {
                lock(&self.table).attach(parent, &Arc::from(name), node.id);
                self.upper_status(&node, &self.upper_spot(&node)?)?
            };
            return Ok(Entry { node: node.keep(), status });
        }
    }
}
