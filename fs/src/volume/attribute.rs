//! `stat(2)` and what changes it.

use super::table::Node;
use super::{FsError, NodeId, Status, Volume};

impl Volume {
    /// `stat(2)`.
    ///
    /// # Errors
    /// `Unknown`, or what a layer or the upper's disk reports.
    pub fn attributes(&self, node: NodeId) -> Result<Status, FsError> {
        let node = self.node(node)?;
        self.status(&node)
    }

    pub(super) fn status(&self, node: &Node) -> Result<Status, FsError> {
        let Some(lower) = &node.lower else { return Err(FsError::Unknown(node.id.0)) };
        let attributes = self.stack.attributes(lower)?;
        Ok(Status { inode: node.inode, attributes, lasting: self.stack.is_node_settled(lower) })
    }
}
