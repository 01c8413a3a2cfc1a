//! Which slot a path belongs to, whatever was written there: a pure function of the path and the layers.
//!
//! A path belongs to the topmost layer that provides exactly this path; a path that no layer provides belongs
//! with its nearest ancestor that one does; the root, and what hangs on it alone, belongs to no slot.

use crate::layer::LayerError;
use crate::layer::stack::{Lower, Stack};
use crate::node::Kind;

/// Returns the position of the layer that `path` belongs to.
///
/// # Errors
/// A layer could not answer.
pub fn owner<'a>(stack: &Stack, path: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<u32>, LayerError> {
    let mut walk = OwnerWalk::root(stack)?;
    for name in path {
        walk = walk.child(stack, name)?;
    }
    Ok(walk.owner)
}

/// The owner while going down a path, so that a walk over a tree asks the layers once per name.
#[derive(Clone, Debug)]
pub struct OwnerWalk {
    /// What the layers hold at exactly this path.
    pub lower: Option<Lower>,
    /// Who owns it.
    pub owner: Option<u32>,
}

impl OwnerWalk {
    /// Starts at the root.
    ///
    /// # Errors
    /// A layer could not answer.
    pub fn root(stack: &Stack) -> Result<Self, LayerError> {
        Ok(Self { lower: Some(stack.root()?), owner: None })
    }

    /// Goes on to `name` in here.
    ///
    /// # Errors
    /// A layer could not answer.
    pub fn child(&self, stack: &Stack, name: &[u8]) -> Result<Self, LayerError> {
        let lower = match &self.lower {
            Some(lower) if lower.kind == Kind::Directory => stack.lookup(lower, name)?,
            _ => None,
        };
        let provider = lower.as_ref().and_then(Lower::provider);
        Ok(Self { lower, owner: provider.or(self.owner) })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::layer::memory::{MemoryLayer, MemoryLayerBuilder};
    use crate::layer::stack::PlacedLayer;

    fn placed(target: &[&str], builder: MemoryLayerBuilder) -> PlacedLayer {
        PlacedLayer {
            name: "slot".into(),
            layer: Arc::new(builder.build().unwrap()),
            target: target.iter().map(|part| part.as_bytes().to_vec()).collect(),
            writable: true,
        }
    }

    #[test]
    fn a_path_belongs_to_its_topmost_provider_or_goes_with_its_parent() {
        let stack = Stack::new(vec![
            placed(&[], MemoryLayer::builder().file("lib/a", 0o644, []).file("bin/tool", 0o755, [])),
            placed(&[], MemoryLayer::builder().file("lib/b", 0o644, []).file("bin", 0o755, [])),
            placed(&["etc", "app"], MemoryLayer::builder().file("config", 0o644, [])),
        ]);
        let table = [
            ("", None),
            ("new", None),
            ("lib", Some(1)),
            ("lib/a", Some(0)),
            ("lib/b", Some(1)),
            ("lib/new", Some(1)),
            ("lib/a/below", Some(0)),
            ("bin", Some(1)),
            ("bin/tool", Some(1)),
            ("etc", None),
            ("etc/new", None),
            ("etc/app", Some(2)),
            ("etc/app/config", Some(2)),
            ("etc/app/new/deep", Some(2)),
        ];
        for (path, expected) in table {
            let names = path.split('/').filter(|name| !name.is_empty()).map(str::as_bytes);
            assert_eq!(owner(&stack, names).unwrap(), expected, "{path}");
        }
    }
}
