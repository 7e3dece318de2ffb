//! Mounts by the text of /proc/self/mountinfo (proc(5)): pure, so that what is concluded from it is tested as tables.

/// A mount.
#[derive(Debug, PartialEq)]
pub struct Mount<'a> {
    /// What of its file system is mounted.
    pub root: String,
    /// Where.
    pub point: String,
    /// File system.
    pub kind: &'a str,
    /// The file system's own options, as they stand there.
    options: &'a str,
}

impl Mount<'_> {
    /// The file system's own options.
    pub fn options(&self) -> impl Iterator<Item = String> {
        self.options.split(',').map(unescape)
    }
}

/// All of them; of those at one place the last one is seen there.
pub fn read(text: &str) -> impl Iterator<Item = Mount<'_>> {
    text.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let (mut before, mut after) = (before.split(' ').skip(3), after.split(' '));
        let (root, point) = (unescape(before.next()?), unescape(before.next()?));
        Some(Mount { root, point, kind: after.next()?, options: after.nth(1)? })
    })
}

/// Space, tab, newline and backslash are written as octal, and in overlayfs' options the comma.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\054", ","), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |t, (from, to)| t.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_and_without_optional_fields() {
        let text = "30 1 0:26 /a\\040b /p\\1341 rw,nosuid shared:9 master:1 - overlay none rw,lowerdir=/x\\054y,index=off\n\
                    31 1 0:27 / /q rw - tmpfs tmpfs rw\nno mount\n";
        let [first, second] = read(text).collect::<Vec<_>>().try_into().unwrap();
        assert_eq!((first.root.as_str(), first.point.as_str(), first.kind), ("/a b", "/p\\1", "overlay"));
        assert_eq!(first.options().collect::<Vec<_>>(), ["rw", "lowerdir=/x,y", "index=off"]);
        assert_eq!((second.root.as_str(), second.point.as_str(), second.kind), ("/", "/q", "tmpfs"));
    }
}
