//! Files that a guest has open, by number.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use rustix::io::Errno;

/// All of them.
#[derive(Debug)]
pub struct Handles {
    open: HashMap<u64, (u64, Arc<File>)>,
    most: usize,
    next: u64,
}

impl Handles {
    /// At most so many.
    pub fn new(most: usize) -> Handles {
        Handles { open: HashMap::new(), most, next: 1 }
    }

    /// Keeps an open file of a node.
    ///
    /// # Errors
    /// ENFILE if there are too many.
    pub fn keep(&mut self, node: u64, file: File) -> Result<u64, Errno> {
        if self.open.len() >= self.most {
            return Err(Errno::NFILE);
        }
        let number = self.next;
        self.next += 1;
        self.open.insert(number, (node, Arc::new(file)));
        Ok(number)
    }

    /// The file.
    ///
    /// # Errors
    /// EBADF if there is none.
    pub fn get(&self, number: u64) -> Result<Arc<File>, Errno> {
        self.open.get(&number).map(|(_, file)| file.clone()).ok_or(Errno::BADF)
    }

    /// Closes it; gives its node.
    pub fn forget(&mut self, number: u64) -> Option<u64> {
        self.open.remove(&number).map(|(node, _)| node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_bounded_and_never_mean_another_file() {
        let open = || File::open("/dev/null").unwrap();
        let mut handles = Handles::new(1);
        let first = handles.keep(7, open()).unwrap();
        assert_eq!(handles.keep(8, open()).unwrap_err(), Errno::NFILE);
        assert_eq!((handles.forget(first), handles.forget(first)), (Some(7), None));
        let second = handles.keep(8, open()).unwrap();
        assert_ne!(first, second);
        assert_eq!(handles.get(first).unwrap_err(), Errno::BADF);
    }
}
