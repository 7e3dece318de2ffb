//! What a container's status says when its machine has ended under it: how, why, and what to do.

/// What the shim and the node know of a machine's end.
#[derive(Debug, Default)]
pub struct End<'a> {
    /// How its process ended.
    pub how: &'a str,
    /// Why the shim ended it, if it did.
    pub given_up: Option<&'a str>,
    /// The node's kernel has killed something in the machine's cgroup for want of memory.
    pub starved: bool,
    /// The line in which the guest's kernel panicked.
    pub panic: Option<&'a str>,
    /// Its last words.
    pub console: &'a str,
}

const STARVED: &str = "the node's kernel killed it for want of memory: the pod used more than its containers' limits and \
                       RuntimeClass.overhead allow, or the node had none left; raise what was too small, or move pods away";
const KILLED: &str = "somebody on the node killed it";

impl End<'_> {
    /// In words.
    pub fn words(&self) -> String {
        let (why, last) = match (self.panic, self.given_up) {
            (Some(last), _) => ("the guest's kernel panicked", last),
            (None, Some(why)) => (why, self.console),
            (None, None) if self.starved => (STARVED, self.console),
            (None, None) if self.how.ends_with("signal 9") => (KILLED, self.console),
            (None, None) => ("", self.console),
        };
        let part = |before: &str, text: &str| if text.is_empty() { String::new() } else { format!("{before}{text}") };
        let (why, last) = (part("; ", why), part("; its last words: ", last.trim()));
        format!("the pod's virtual machine ended ({}), and its containers with it{why}{last}", self.how)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_with_its_cause() {
        let killed = End { how: "killed by signal 9", ..End::default() };
        assert!(killed.words().ends_with("with it; somebody on the node killed it"), "{}", killed.words());
        let starved = End { starved: true, ..killed };
        assert!(starved.words().contains("want of memory") && starved.words().contains("RuntimeClass.overhead"));
        let given_up = End { given_up: Some("the shim ended it"), ..starved };
        assert!(given_up.words().ends_with("with it; the shim ended it"), "{}", given_up.words());
        let panic = Some("Kernel panic - not syncing: Attempted to kill init!");
        let panicked = End { how: "exit status: 0", panic, console: "RAX: 0 | RBX: 0", ..End::default() };
        let words = panicked.words();
        assert!(
            words.ends_with("kernel panicked; its last words: Kernel panic - not syncing: Attempted to kill init!"),
            "{words}"
        );
        let plain = End { how: "exit status: 1", console: " ", ..End::default() };
        assert_eq!(plain.words(), "the pod's virtual machine ended (exit status: 1), and its containers with it");
    }
}
