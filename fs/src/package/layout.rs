//! Whether the parts of a package lie inside the file and apart from each other. Pure arithmetic, none of it
//! able to overflow.

use super::error::{Defect, Part};

/// Bytes that a part claims.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region {
    pub(super) part: Part,
    pub(super) offset: u64,
    pub(super) size: u64,
}

impl Region {
    /// Checks that the region ends within the first `available` bytes of the file. One of no bytes may claim to
    /// be anywhere, since nothing is read from it.
    pub(super) fn check_inside(&self, available: u64) -> Result<(), Defect> {
        let inside = self.offset.checked_add(self.size).is_some_and(|end| end <= available);
        if inside || self.size == 0 {
            return Ok(());
        }
        Err(Defect::Outside { part: self.part, offset: self.offset, size: self.size, available })
    }
}

/// Checks that no two of these regions, each inside the file, share a byte.
pub(super) fn check_disjoint(mut regions: Vec<Region>) -> Result<(), Defect> {
    regions.retain(|region| region.size > 0);
    regions.sort_by_key(|region| region.offset);
    let mut pairs = regions.iter().zip(regions.iter().skip(1));
    match pairs.find(|(first, second)| second.offset - first.offset < first.size) {
        None => Ok(()),
        Some((first, second)) => {
            Err(Defect::Overlap { first: first.part, second: second.part, offset: second.offset })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn region(position: u32, offset: u64, size: u64) -> Region {
        Region { part: Part::Slot(position), offset, size }
    }

    #[test]
    fn a_region_ends_where_it_may() {
        for (offset, size, available, inside) in [
            (0, 10, 10, true),
            (1, 10, 10, false),
            (10, 0, 10, true),
            (u64::MAX, 0, 10, true),
            (u64::MAX, 1, u64::MAX, false),
            (1, u64::MAX, u64::MAX, false),
            (0, 1 << 40, 10, false),
        ] {
            assert_eq!(region(0, offset, size).check_inside(available).is_ok(), inside, "{offset} {size}");
        }
    }

    proptest! {
        #[test]
        fn regions_are_disjoint_exactly_when_no_byte_is_in_two(
            spans in prop::collection::vec((0_u64..40, 0_u64..8), 0..8),
        ) {
            let mut owners = [0; 64];
            for (offset, size) in &spans {
                (*offset..offset + size).for_each(|byte| owners[byte as usize] += 1);
            }
            let regions = spans.iter().zip(0..).map(|((offset, size), n)| region(n, *offset, *size)).collect();
            prop_assert_eq!(check_disjoint(regions).is_ok(), owners.iter().all(|count| *count < 2));
        }
    }
}
