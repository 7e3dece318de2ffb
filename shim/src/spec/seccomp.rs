//! `linux.seccomp` of a spec as a classic BPF program for the guest's kernel.
//!
//! Input: the profile that containerd took from its default or from a node's file. The agent installs the program as it is.
//! It is compiled here, without a library, so that the guest needs none. The rules are those of libseccomp as runc drives
//! it: a call's conditional rules come before its unconditional one, conditions on one argument twice are alternatives,
//! names that are not known are passed over, and calls newer than all that the profile names do not exist (ENOSYS), so that
//! C libraries fall back to older ones. Calls by another entry than x86-64's own (i386, x32) end the process: the guest's
//! kernel has neither.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::SpecError;
use super::syscalls;

/// `linux.seccomp`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Seccomp {
    default_action: String,
    default_errno_ret: Option<u32>,
    syscalls: Vec<Rule>,
}

/// What becomes of some calls.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Rule {
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    args: Vec<Condition>,
}

/// A condition on an argument.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Condition {
    index: u32,
    value: u64,
    value_two: u64,
    op: Op,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
enum Op {
    #[serde(rename = "SCMP_CMP_NE")]
    Ne,
    #[serde(rename = "SCMP_CMP_LT")]
    Lt,
    #[serde(rename = "SCMP_CMP_LE")]
    Le,
    #[default]
    #[serde(rename = "SCMP_CMP_EQ")]
    Eq,
    #[serde(rename = "SCMP_CMP_GE")]
    Ge,
    #[serde(rename = "SCMP_CMP_GT")]
    Gt,
    /// `argument & value == value_two`.
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    Masked,
}

/// BPF_MAXINSNS.
const MAX_INSTRUCTIONS: usize = 4096;
const MAX_ARGUMENT: u32 = 5;
const KILL_PROCESS: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;
const ARCH_X86_64: u32 = 0xc000_003e;
const X32: u32 = 0x4000_0000;
/// Offsets in struct seccomp_data.
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;
/// Instruction codes.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JA: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const RET: u16 = 0x06;

/// struct sock_filter.
#[derive(Debug, Clone, Copy)]
struct Instruction {
    code: u16,
    yes: u8,
    no: u8,
    k: u32,
}

fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, yes: 0, no: 0, k }
}

/// What is done with one call: by conditions that must all hold, else at any rate.
#[derive(Debug, Clone, Default, PartialEq)]
struct Verdict {
    conditional: Vec<(Vec<Condition>, u32)>,
    always: Option<u32>,
}

impl Seccomp {
    /// The program, 8 bytes an instruction.
    ///
    /// # Errors
    /// For an action that is not known or can't be had, or a profile that is too large for the kernel.
    pub fn compile(&self) -> Result<Vec<u8>, SpecError> {
        let default = action(&self.default_action, self.default_errno_ret)?;
        let program = assemble(default, &self.verdicts(default)?);
        if program.len() > MAX_INSTRUCTIONS {
            return Err(SpecError::Unsupported {
                what: "a seccomp profile that compiles to more than 4096 instructions",
                remedy: "use a profile with fewer rules",
            });
        }
        let mut bytes = Vec::with_capacity(program.len() * 8);
        for instruction in program {
            bytes.extend_from_slice(&instruction.code.to_le_bytes());
            bytes.extend_from_slice(&[instruction.yes, instruction.no]);
            bytes.extend_from_slice(&instruction.k.to_le_bytes());
        }
        Ok(bytes)
    }

    fn verdicts(&self, default: u32) -> Result<BTreeMap<u32, Verdict>, SpecError> {
        let mut verdicts: BTreeMap<u32, Verdict> = BTreeMap::new();
        for rule in &self.syscalls {
            let action = action(&rule.action, rule.errno_ret)?;
            if let Some(condition) = rule.args.iter().find(|condition| condition.index > MAX_ARGUMENT) {
                return Err(SpecError::Unknown { what: "the argument of a system call", value: condition.index.to_string() });
            }
            for number in rule.names.iter().filter_map(|name| syscalls::number(name)) {
                let verdict = verdicts.entry(number).or_default();
                // As libseccomp: what the default does anyway needs no rule.
                if action == default {
                    continue;
                }
                if rule.args.is_empty() {
                    verdict.always = Some(action);
                }
                verdict.conditional.extend(alternatives(&rule.args).into_iter().map(|conditions| (conditions, action)));
            }
        }
        Ok(verdicts)
    }
}

/// Conditions that must hold together, once for each alternative.
fn alternatives(conditions: &[Condition]) -> Vec<Vec<Condition>> {
    let twice = conditions.iter().enumerate().any(|(n, a)| conditions[..n].iter().any(|b| a.index == b.index));
    match conditions {
        [] => Vec::new(),
        _ if twice => conditions.iter().map(|c| vec![*c]).collect(),
        _ => vec![conditions.to_vec()],
    }
}

fn action(name: &str, errno: Option<u32>) -> Result<u32, SpecError> {
    const EPERM: u32 = 1;
    let data = errno.unwrap_or(EPERM) & 0xffff;
    Ok(match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
        "SCMP_ACT_KILL_PROCESS" => KILL_PROCESS,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_ERRNO" => ERRNO | data,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | data,
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        "SCMP_ACT_NOTIFY" => {
            return Err(SpecError::Unsupported {
                what: "a seccomp profile with SCMP_ACT_NOTIFY",
                remedy: "its agent would be on the node, the calls are in the machine: use another action",
            });
        }
        other => return Err(SpecError::Unknown { what: "the seccomp action", value: other.to_owned() }),
    })
}

fn assemble(default: u32, verdicts: &BTreeMap<u32, Verdict>) -> Vec<Instruction> {
    const ENOSYS: u32 = 38;
    let jump = |code, k, yes, no| Instruction { code, yes, no, k };
    let mut out = vec![
        plain(LOAD, ARCH),
        jump(JEQ, ARCH_X86_64, 1, 0),
        plain(RET, KILL_PROCESS),
        plain(LOAD, NR),
        jump(JGE, X32, 0, 1),
        plain(RET, KILL_PROCESS),
    ];
    let last = verdicts.keys().next_back().copied();
    let strict = default & 0xffff_0000 == ERRNO || default & 0x7fff_0000 == 0 || default == 0x0003_0000;
    if let (Some(last), true) = (last, strict) {
        out.extend([jump(JGT, last, 0, 1), plain(RET, ERRNO | ENOSYS)]);
    }
    let mut numbers = verdicts.iter().peekable();
    while let Some((&first, verdict)) = numbers.next() {
        if verdict.conditional.is_empty() {
            let mut end = first;
            while let Some(&(&next, _)) = numbers.peek().filter(|(next, more)| **next == end + 1 && *more == verdict) {
                end = next;
                numbers.next();
            }
            if let Some(action) = verdict.always {
                out.extend([jump(JGE, first, 0, 2), jump(JGT, end, 1, 0), plain(RET, action)]);
            }
            continue;
        }
        let mut section = Vec::new();
        for (conditions, action) in &verdict.conditional {
            section.extend(conditional(conditions, *action));
        }
        section.push(plain(RET, verdict.always.unwrap_or(default)));
        // A section may be longer than what a conditional jump reaches.
        out.extend([jump(JEQ, first, 1, 0), plain(JA, section.len() as u32)]);
        out.extend(section);
    }
    out.push(plain(RET, default));
    out
}

/// Where a jump goes before it is known how far that is.
const NEXT: u8 = 0;
const FAIL: u8 = 254;
const HOLDS: u8 = 255;

/// Returns `action` if all conditions hold, else falls through. At most 6 conditions of 6 instructions: all jumps reach.
fn conditional(conditions: &[Condition], action: u32) -> Vec<Instruction> {
    let mut out: Vec<Instruction> = Vec::new();
    let mut ends = Vec::new();
    for &Condition { index, value, value_two: two, op } in conditions {
        let begin = out.len();
        let (high, low) = ((value >> 32) as u32, value as u32);
        let load = |half: u32| plain(LOAD, ARGUMENTS + 8 * index + 4 * half);
        let jump = |code, k, yes, no| Instruction { code, yes, no, k };
        match op {
            Op::Eq => out.extend([load(1), jump(JEQ, high, NEXT, FAIL), load(0), jump(JEQ, low, NEXT, FAIL)]),
            Op::Ne => {
                out.extend([load(1), jump(JEQ, high, NEXT, HOLDS), load(0), jump(JEQ, low, FAIL, NEXT)]);
            }
            Op::Masked => out.extend([
                load(1),
                plain(AND, high),
                jump(JEQ, (two >> 32) as u32, NEXT, FAIL),
                load(0),
                plain(AND, low),
                jump(JEQ, two as u32, NEXT, FAIL),
            ]),
            Op::Gt | Op::Ge => {
                let code = if op == Op::Gt { JGT } else { JGE };
                out.extend([
                    load(1),
                    jump(JGT, high, HOLDS, NEXT),
                    jump(JEQ, high, NEXT, FAIL),
                    load(0),
                    jump(code, low, NEXT, FAIL),
                ]);
            }
            Op::Lt | Op::Le => {
                let code = if op == Op::Lt { JGE } else { JGT };
                out.extend([
                    load(1),
                    jump(JGT, high, FAIL, NEXT),
                    jump(JEQ, high, NEXT, HOLDS),
                    load(0),
                    jump(code, low, FAIL, NEXT),
                ]);
            }
        }
        ends.extend(std::iter::repeat_n(out.len(), out.len() - begin));
    }
    out.push(plain(RET, action));
    let past = out.len();
    for (at, &end) in ends.iter().enumerate() {
        let resolve = |to: u8| match to {
            FAIL => (past - at - 1) as u8,
            HOLDS => (end - at - 1) as u8,
            near => near,
        };
        (out[at].yes, out[at].no) = (resolve(out[at].yes), resolve(out[at].no));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALLOW: u32 = 0x7fff_0000;

    /// What the kernel's interpreter does with the instructions used here.
    fn run(program: &[u8], arch: u32, nr: u32, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend_from_slice(&nr.to_le_bytes());
        data.extend_from_slice(&arch.to_le_bytes());
        data.extend_from_slice(&[0; 8]);
        arguments.iter().for_each(|argument| data.extend_from_slice(&argument.to_le_bytes()));
        let (mut at, mut a) = (0, 0u32);
        loop {
            let i = &program[at * 8..at * 8 + 8];
            let k = u32::from_le_bytes([i[4], i[5], i[6], i[7]]);
            let branch = |is: bool| usize::from(if is { i[2] } else { i[3] });
            at += 1;
            match u16::from_le_bytes([i[0], i[1]]) {
                LOAD => a = u32::from_le_bytes(data[k as usize..k as usize + 4].try_into().unwrap()),
                AND => a &= k,
                JA => at += k as usize,
                JEQ => at += branch(a == k),
                JGT => at += branch(a > k),
                JGE => at += branch(a >= k),
                RET => return k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn compile(text: &str) -> Vec<u8> {
        serde_json::from_str::<Seccomp>(text).unwrap().compile().unwrap()
    }

    #[test]
    fn a_profile_says_what_each_call_does() {
        let program = compile(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
                {"names":["read","write","open","close","no_such_call","mseal"],"action":"SCMP_ACT_ALLOW"},
                {"names":["clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":38},
                {"names":["personality"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":8,"op":"SCMP_CMP_EQ"}]},
                {"names":["personality"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":4294967295,"op":"SCMP_CMP_EQ"}]},
                {"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":40,"op":"SCMP_CMP_NE"}]},
                {"names":["clone"],"action":"SCMP_ACT_ALLOW",
                 "args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#,
        );
        let x86 = |name: &str, first: u64| run(&program, ARCH_X86_64, syscalls::number(name).unwrap(), [first, 0, 0, 0, 0, 0]);
        for (name, first, expect) in [
            ("read", 0, ALLOW),
            ("close", 0, ALLOW),
            ("stat", 0, ERRNO | 1),
            ("mount", 0, ERRNO | 1),
            ("clone3", 0, ERRNO | 38),
            ("personality", 8, ALLOW),
            ("personality", 0xffff_ffff, ALLOW),
            ("personality", 9, ERRNO | 1),
            ("personality", 8 | 1 << 40, ERRNO | 1),
            ("socket", 40, ERRNO | 1),
            ("socket", 2, ALLOW),
            ("clone", 17, ALLOW),
            ("clone", 0x1000_0000, ERRNO | 1),
            ("mseal", 0, ALLOW),
            ("setxattrat", 0, ERRNO | 38),
        ] {
            assert_eq!(x86(name, first), expect, "{name} {first:#x}");
        }
        assert_eq!(run(&program, 0x4000_0003, 3, [0; 6]), KILL_PROCESS, "i386");
        assert_eq!(run(&program, ARCH_X86_64, X32, [0; 6]), KILL_PROCESS, "x32");
    }

    /// On the kernel of the machine that runs the tests, for one thread.
    #[test]
    fn the_kernel_takes_the_program() {
        let program = compile(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
                {"names":["getsid"],"action":"SCMP_ACT_ERRNO","errnoRet":95},
                {"names":["getpgid"],"action":"SCMP_ACT_ERRNO","errnoRet":38,
                 "args":[{"index":0,"value":1,"op":"SCMP_CMP_GE"},{"index":0,"value":9,"op":"SCMP_CMP_EQ"}]}]}"#,
        );
        let work = move || {
            let filter: Vec<libc::sock_filter> = program
                .chunks_exact(8)
                .map(|i| libc::sock_filter {
                    code: u16::from_le_bytes([i[0], i[1]]),
                    jt: i[2],
                    jf: i[3],
                    k: u32::from_le_bytes([i[4], i[5], i[6], i[7]]),
                })
                .collect();
            let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
            let failed = || std::io::Error::last_os_error().raw_os_error();
            // SAFETY: the program outlives the call; it binds this thread, which ends with the test.
            unsafe {
                assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
                assert_eq!(libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program), 0);
                assert_eq!((libc::syscall(libc::SYS_getsid, 0), failed()), (-1, Some(95)));
                assert_eq!((libc::syscall(libc::SYS_getpgid, 1), failed()), (-1, Some(38)));
                assert!(libc::syscall(libc::SYS_getpgid, 0) >= 0);
            }
        };
        std::thread::spawn(work).join().unwrap();
    }

    #[test]
    fn a_profile_that_allows_by_default_allows_what_is_new() {
        let program =
            compile(r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_KILL_PROCESS"}]}"#);
        assert_eq!(run(&program, ARCH_X86_64, 83, [0; 6]), KILL_PROCESS);
        assert_eq!(run(&program, ARCH_X86_64, 9999, [0; 6]), ALLOW);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for text in [
            r#"{"defaultAction":"SCMP_ACT_MAGIC"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["bpf"],"action":"SCMP_ACT_NOTIFY"}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["bpf"],"action":"SCMP_ACT_KILL","args":[{"index":6}]}]}"#,
        ] {
            assert!(serde_json::from_str::<Seccomp>(text).unwrap().compile().is_err(), "{text}");
        }
    }

    fn holds(c: &Condition, argument: u64) -> bool {
        match c.op {
            Op::Eq => argument == c.value,
            Op::Ne => argument != c.value,
            Op::Lt => argument < c.value,
            Op::Le => argument <= c.value,
            Op::Ge => argument >= c.value,
            Op::Gt => argument > c.value,
            Op::Masked => argument & c.value == c.value_two,
        }
    }

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![0u64..4, any::<u64>(), (0u64..3, 0u64..3).prop_map(|(high, low)| high << 32 | low)]
    }

    proptest! {
        #[test]
        fn conditions_hold_as_they_say(
            conditions in prop::collection::vec((0u32..6, number(), number(), 0usize..7), 1..6),
            arguments in prop::array::uniform6(number()),
        ) {
            let ops = [Op::Ne, Op::Lt, Op::Le, Op::Eq, Op::Ge, Op::Gt, Op::Masked];
            let args: Vec<Condition> = conditions.into_iter()
                .map(|(index, value, value_two, op)| Condition { index, value, value_two, op: ops[op] }).collect();
            let seen: std::collections::BTreeSet<u32> = args.iter().map(|c| c.index).collect();
            let mut each = args.iter().map(|c| holds(c, arguments[c.index as usize]));
            let expect = if seen.len() < args.len() { each.any(|is| is) } else { each.all(|is| is) };
            let rule = Rule { names: vec!["prctl".into()], action: "SCMP_ACT_ALLOW".into(), errno_ret: None, args };
            let profile = Seccomp { default_action: "SCMP_ACT_KILL".into(), default_errno_ret: None, syscalls: vec![rule] };
            let found = run(&profile.compile().unwrap(), ARCH_X86_64, 157, arguments);
            prop_assert_eq!(found, if expect { ALLOW } else { 0 });
        }
    }
}
