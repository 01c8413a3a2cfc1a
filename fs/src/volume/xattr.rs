//! Extended attributes.

use super::copy_up::Need;
use super::table::Node;
use super::{FsError, NodeId, Volume, XattrMode};
use crate::disk::DiskError;
use crate::disk::unix::{NO_ATTRIBUTE, XattrFlag};
use crate::layer::ExtendedAttributes;
use crate::node::Kind;

impl Volume {
    /// `getxattr(2)`.
    ///
    /// # Errors
    /// `NoAttribute`, `Unknown`, or what a layer or the upper's disk reports.
    pub fn extended_attribute(&self, node: NodeId, name: &[u8]) -> Result<Vec<u8>, FsError> {
        let node = self.node(node)?;
        {
            let _names = self.names();
            if let Some(spot) = self.spot(&node)? {
                return self.writable_upper()?.aside().attribute(&spot, name)?.ok_or(FsError::NoAttribute);
            }
        }
        let all = self.lower_xattrs(&node)?;
        all.into_iter().find(|(known, _)| known == name).map(|(_, value)| value).ok_or(FsError::NoAttribute)
    }

    /// `listxattr(2)`: names in order.
    ///
    /// # Errors
    /// `Unknown`, or what a layer or the upper's disk reports.
    pub fn extended_attribute_names(&self, node: NodeId) -> Result<Vec<Vec<u8>>, FsError> {
        let node = self.node(node)?;
        {
            let _names = self.names();
            if let Some(spot) = self.spot(&node)? {
                return Ok(self.writable_upper()?.aside().attribute_names(&spot)?);
            }
        }
        Ok(self.lower_xattrs(&node)?.into_iter().map(|(name, _)| name).collect())
    }

    /// `setxattr(2)`.
    ///
    /// # Errors
    /// `Exists`, `NoAttribute`, `NotPermitted` for `user.*` on what is no file or directory, `ReadOnly`,
    /// `Unknown`, or what the upper's disk reports.
    pub fn set_extended_attribute(
        &self,
        node: NodeId,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<(), FsError> {
        let node = self.node(node)?;
        self.check_attribute_change(&node, name)?;
        self.copy_up(&node, Need::Attributes)?;
        let flag = match mode {
            XattrMode::Set => XattrFlag::Set,
            XattrMode::Create => XattrFlag::Create,
            XattrMode::Replace => XattrFlag::Replace,
        };
        let _names = self.names();
        let spot = self.upper_spot(&node)?;
        self.counted_attributes(&spot, value.len(), || {
            self.writable_upper()?.set_attribute(&spot, name, value, flag).map_err(|error| {
                let exists = error.kind() == std::io::ErrorKind::AlreadyExists;
                if exists { FsError::Exists } else { absent_attribute(error) }
            })
        })
    }

    /// `removexattr(2)`.
    ///
    /// # Errors
    /// As [`Self::set_extended_attribute`].
    pub fn remove_extended_attribute(&self, node: NodeId, name: &[u8]) -> Result<(), FsError> {
        let node = self.node(node)?;
        self.check_attribute_change(&node, name)?;
        self.copy_up(&node, Need::Attributes)?;
        let _names = self.names();
        let spot = self.upper_spot(&node)?;
        let upper = self.writable_upper()?;
        self.counted_attributes(&spot, 0, || upper.remove_attribute(&spot, name).map_err(absent_attribute))
    }

    fn check_attribute_change(&self, node: &Node, name: &[u8]) -> Result<(), FsError> {
        self.check_writable(node)?;
        // The host would refuse it after the copy was made; see `xattr(7)`.
        if name.starts_with(b"user.") && !matches!(node.kind, Kind::File | Kind::Directory) {
            return Err(FsError::NotPermitted);
        }
        Ok(())
    }

    pub(super) fn lower_xattrs(&self, node: &Node) -> Result<ExtendedAttributes, FsError> {
        match node.lower.as_ref().and_then(|lower| lower.top()) {
            Some((layer, at)) => Ok(self.stack.layer(layer).layer.extended_attributes(at)?),
            None => Ok(Vec::new()),
        }
    }
}

fn absent_attribute(error: DiskError) -> FsError {
    if error.source.raw_os_error() == Some(NO_ATTRIBUTE) { FsError::NoAttribute } else { error.into() }
}
