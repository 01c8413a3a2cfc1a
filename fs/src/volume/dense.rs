//! A map from numbers that lie close together to small values: it takes little more than the values.
//!
//! **Invariant:** a page without values is not kept, so what is empty takes nothing.

use std::collections::HashMap;

/// How many numbers in a row share a page. Where they are far apart, each takes a page of its own.
const PAGE: u64 = 32;

/// The map.
#[derive(Debug)]
pub(crate) struct DenseMap<T> {
    pages: HashMap<u64, Box<Page<T>>>,
    len: usize,
}

#[derive(Debug)]
struct Page<T> {
    /// A bit for each value that is there.
    used: u32,
    values: [T; PAGE as usize],
}

impl<T> Default for DenseMap<T> {
    fn default() -> Self {
        Self { pages: HashMap::new(), len: 0 }
    }
}

/// Returns the page of a number, its place there, and its bit.
fn place(number: u64) -> (u64, usize, u32) {
    (number / PAGE, (number % PAGE) as usize, 1 << (number % PAGE))
}

impl<T: Copy + Default> DenseMap<T> {
    /// Returns a number that is the same for all numbers that share memory.
    pub(crate) fn page_of(number: u64) -> u64 {
        place(number).0
    }

    /// Returns how many values there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, number: u64) -> Option<T> {
        let (page, at, bit) = place(number);
        let page = self.pages.get(&page)?;
        (page.used & bit != 0).then(|| page.values[at])
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let (page, at, bit) = place(number);
        let page = self.pages.get_mut(&page)?;
        (page.used & bit != 0).then(|| &mut page.values[at])
    }

    /// Sets the value of `number`.
    pub(crate) fn insert(&mut self, number: u64, value: T) {
        let (page, at, bit) = place(number);
        let empty = || Box::new(Page { used: 0, values: [T::default(); PAGE as usize] });
        let page = self.pages.entry(page).or_insert_with(empty);
        self.len += usize::from(page.used & bit == 0);
        page.used |= bit;
        page.values[at] = value;
    }

    /// Takes the value of `number` out.
    pub(crate) fn remove(&mut self, number: u64) -> Option<T> {
        let value = self.get(number)?;
        let (page, _, bit) = place(number);
        if let Some(kept) = self.pages.get_mut(&page) {
            kept.used &= !bit;
            if kept.used == 0 {
                self.pages.remove(&page);
            }
        }
        self.len -= 1;
        if self.pages.len() < self.pages.capacity() / 8 {
            self.pages.shrink_to_fit();
        }
        Some(value)
    }

    /// Visits every number with its value.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, T)> {
        self.pages.iter().flat_map(|(page, kept)| {
            let there = kept.values.iter().enumerate().filter(|(at, _)| kept.used & 1 << at != 0);
            there.map(move |(at, value)| (page * PAGE + at as u64, *value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_put_in_until_it_is_taken_out() {
        let mut map = DenseMap::default();
        let numbers = [0, 1, PAGE - 1, PAGE, 7 << 32, (7 << 32) + 1, u64::MAX];
        for number in numbers {
            map.insert(number, number / 3);
            map.insert(number, number / 2);
        }
        assert_eq!((map.len(), map.get(2), map.remove(2)), (numbers.len(), None, None));
        if let Some(value) = map.get_mut(PAGE) {
            *value += 1;
        }
        let mut all: Vec<_> = map.iter().collect();
        all.sort_unstable();
        let expected = numbers.map(|number| (number, number / 2 + u64::from(number == PAGE)));
        assert_eq!(all, expected);
        for (number, value) in expected {
            assert_eq!((map.remove(number), map.get(number)), (Some(value), None));
        }
        assert_eq!((map.len(), map.pages.len()), (0, 0));
    }
}
