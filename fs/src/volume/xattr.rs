//! Extended attributes.

use super::table::Node;
use super::{FsError, NodeId, Volume};

impl Volume {
    /// `getxattr(2)`.
    ///
    /// # Errors
    /// `NoAttribute`, `Unknown`, or what a layer or the upper's disk reports.
    pub fn extended_attribute(&self, node: NodeId, name: &[u8]) -> Result<Vec<u8>, FsError> {
        let node = self.node(node)?;
        let all = self.lower_xattrs(&node)?;
        all.into_iter().find(|(known, _)| known == name).map(|(_, value)| value).ok_or(FsError::NoAttribute)
    }

    /// `listxattr(2)`: names in order.
    ///
    /// # Errors
    /// `Unknown`, or what a layer or the upper's disk reports.
    pub fn extended_attribute_names(&self, node: NodeId) -> Result<Vec<Vec<u8>>, FsError> {
        let node = self.node(node)?;
        Ok(self.lower_xattrs(&node)?.into_iter().map(|(name, _)| name).collect())
    }

    pub(super) fn lower_xattrs(&self, node: &Node) -> Result<Vec<(Vec<u8>, Vec<u8>)>, FsError> {
        match node.lower.as_ref().and_then(|lower| lower.top()) {
            Some((layer, at)) => Ok(self.stack.layer(layer).layer.extended_attributes(at)?),
            None => Ok(Vec::new()),
        }
    }
}
