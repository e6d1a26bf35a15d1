//! A list of shared objects that is itself shared: a copy costs nothing until one of the two is changed.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A list of objects.
#[derive(Debug)]
pub struct List<T>(Arc<Vec<Arc<T>>>);

impl<T> List<T> {
    /// Adds an object.
    pub fn push(&mut self, object: Arc<T>) {
        Arc::make_mut(&mut self.0).push(object);
    }

    /// Keeps the objects for which `keep` holds.
    pub fn retain(&mut self, keep: impl FnMut(&Arc<T>) -> bool) {
        Arc::make_mut(&mut self.0).retain(keep);
    }

    /// Takes the last object away.
    pub fn pop(&mut self) -> Option<Arc<T>> {
        Arc::make_mut(&mut self.0).pop()
    }

    /// Whether both hold the very same objects in the same order.
    #[must_use]
    pub fn shares_all_with(&self, other: &Self) -> bool {
        let same = || self.iter().zip(other.iter()).all(|(one, other)| Arc::ptr_eq(one, other));
        Arc::ptr_eq(&self.0, &other.0) || (self.len() == other.len() && same())
    }
}

impl<T> Deref for List<T> {
    type Target = [Arc<T>];

    fn deref(&self) -> &[Arc<T>] {
        &self.0
    }
}

impl<T> DerefMut for List<T> {
    fn deref_mut(&mut self) -> &mut [Arc<T>] {
        Arc::<Vec<Arc<T>>>::make_mut(&mut self.0).as_mut_slice()
    }
}

impl<T> Clone for List<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Extend<Arc<T>> for List<T> {
    fn extend<I: IntoIterator<Item = Arc<T>>>(&mut self, objects: I) {
        Arc::make_mut(&mut self.0).extend(objects);
    }
}

impl<T> FromIterator<Arc<T>> for List<T> {
    fn from_iter<I: IntoIterator<Item = Arc<T>>>(objects: I) -> Self {
        Self(Arc::new(objects.into_iter().collect()))
    }
}

impl<'l, T> IntoIterator for &'l List<T> {
    type Item = &'l Arc<T>;
    type IntoIter = std::slice::Iter<'l, Arc<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'l, T> IntoIterator for &'l mut List<T> {
    type Item = &'l mut Arc<T>;
    type IntoIter = std::slice::IterMut<'l, Arc<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}
