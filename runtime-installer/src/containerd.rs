//! What to write so that containerd knows our runtime: decided from its version and configuration, without acting.
//!
//! Input: containerd's version, the text of its main configuration and the runtime to add. [`crate::register`] writes the
//! result, lets containerd itself check it and only then restarts. It stands apart so that every shape of configuration
//! seen in the field is a fixture and a row of a test.
//!
//! Two ways, because containerd changed its mind about imports: 2.0 merges plugin tables of imported files, so we add one
//! file of our own to [`DROP_IN_DIRECTORY`]. 1.x *replaces* a plugin's whole table by the imported one (containerd pull
//! request 9982 tells the story), so a drop-in would silently drop the node's registry and cgroup settings; there the
//! runtime is added to the main file, keeping its comments and order.
//!
//! Not here: configuration version 1, which containerd 2 dropped, is refused with the command that migrates it.

use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value, value};

/// Folder whose files containerd 2.2 imports by default; earlier ones of the 2 series import it once told.
pub const DROP_IN_DIRECTORY: &str = "/etc/containerd/conf.d";
/// Our file in it. The number puts it behind what a distribution ships.
pub const DROP_IN_PATH: &str = "/etc/containerd/conf.d/90-freehold.toml";
/// The import that covers it.
pub const IMPORT: &str = "/etc/containerd/conf.d/*.toml";
/// containerd's main configuration.
pub const MAIN_PATH: &str = "/etc/containerd/config.toml";
/// Runtime type of containerd 2.
pub const RUNTIME_TYPE: &str = "io.containerd.freehold.v2";
/// Bytes of a configuration that are read at most; real ones have some ten thousand.
pub const MAX_CONFIG_BYTES: u64 = 1024 * 1024;
/// First line of what we write.
const HEADER: &str = "# Written by freehold-runtime-installer; changes are overwritten.\n";

/// A configuration that is not touched, and why.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The text is no TOML.
    #[error("{MAIN_PATH} does not parse as TOML: {0}; containerd would not start with it either, repair it first")]
    Parse(String),
    /// A version this program does not know.
    #[error(
        "{MAIN_PATH} has configuration version {0}; versions 2, 3 and 4 are known. \
         Convert it with `containerd config migrate` (containerd 1.7 or later)"
    )]
    Version(i64),
    /// containerd's version does not parse.
    #[error("containerd says its version is {0:?}; expected something like 1.7.27 or v2.1.4")]
    Containerd(String),
    /// Something on the way to our table is not a table.
    #[error("{MAIN_PATH}: {0} is not a table, so the runtime cannot be added below it; repair it first")]
    NotTable(String),
    /// `imports` is not a list.
    #[error("{MAIN_PATH}: imports is not a list of files; repair it first")]
    Imports,
    /// CRI is switched off.
    #[error("{MAIN_PATH} disables the plugin {0}, which serves the kubelet; remove it from disabled_plugins first")]
    Disabled(String),
}

/// The runtime to register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// Handler name, the one in the RuntimeClass.
    pub handler: String,
    /// Absolute path of the shim on the node.
    pub shim: String,
    /// Absolute path by which it finds its configuration without being told.
    pub program: String,
    /// Absolute path of the shim's configuration on the node.
    pub config: String,
}

/// Files to write, as whole contents; `None` means the file needs no change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// New text of the main file.
    pub main: Option<String>,
    /// Text of our drop-in file. It is written if it differs from what lies there.
    pub drop_in: Option<String>,
}

impl Plan {
    /// The file that holds our runtime, for the status.
    pub fn config_path(&self) -> &'static str {
        if self.drop_in.is_some() { DROP_IN_PATH } else { MAIN_PATH }
    }
}

/// containerd's major version from what `containerd --version` prints or the kubelet reports (`containerd://2.1.4`).
pub fn major(version: &str) -> Result<u32, ConfigError> {
    let bad = || ConfigError::Containerd(version.to_owned());
    let bare = version.trim().trim_start_matches("containerd://").trim_start_matches('v');
    bare.split('.').next().and_then(|major| major.parse().ok()).ok_or_else(bad)
}

/// containerd's folder of running state, as its main configuration has it.
pub fn state(main: &str) -> String {
    let document = main.parse::<DocumentMut>().ok();
    document.as_ref().and_then(|document| document.get("state")?.as_str()).unwrap_or("/run/containerd").to_owned()
}

/// Decides what to write. `main` is empty when the file does not exist.
pub fn plan(major: u32, main: &str, runtime: &Runtime) -> Result<Plan, ConfigError> {
    let mut document: DocumentMut = main.parse().map_err(|error: toml_edit::TomlError| ConfigError::Parse(error.to_string()))?;
    let version = config_version(major, &document)?;
    let plugin = plugin(version);
    refuse_disabled(&document)?;
    if major < 2 {
        if document.as_table().is_empty() {
            document["version"] = value(version);
        }
        // 1.6.20, which Debian 12 has, and 1.7.0 pass over runtime_path (containerd pull request 8208) and look for the type's name
        // beside themselves and in PATH; a type that is a path is run as it is, by every 1.x.
        let options = [("ConfigPath", runtime.config.as_str())];
        add_runtime(&mut document, plugin, &runtime.handler, (&runtime.shim, &runtime.shim), &options)?;
        return Ok(Plan { main: changed(main, document), drop_in: None });
    }
    if document.as_table().is_empty() {
        document["version"] = value(version);
    }
    if !covered(&document)? {
        add_import(&mut document);
    }
    let mut ours = DocumentMut::new();
    ours["version"] = value(version);
    // Without options: to a container of a pod with a user namespace containerd adds some of runc's own, which go with no others.
    add_runtime(&mut ours, plugin, &runtime.handler, (RUNTIME_TYPE, &runtime.program), &[])?;
    Ok(Plan { main: changed(main, document), drop_in: Some(format!("{HEADER}{ours}")) })
}

/// Whether two dumps of containerd's effective configuration differ in nothing but our runtime and the imports, and the
/// second has our runtime. This is what lets a restart happen: it catches a merge that lost someone's settings.
pub fn only_added(before: &str, after: &str, handler: &str) -> Result<bool, ConfigError> {
    let parse = |text: &str| text.parse::<DocumentMut>().map_err(|error| ConfigError::Parse(error.to_string()));
    let (mut before, mut after) = (parse(before)?, parse(after)?);
    strip(&mut before, handler);
    let present = strip(&mut after, handler);
    Ok(present && plain(before.as_table()) == plain(after.as_table()))
}

/// Removes our runtime and the imports; says whether the runtime was there.
fn strip(document: &mut DocumentMut, handler: &str) -> bool {
    document.remove("imports");
    let mut found = false;
    for plugin in ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"] {
        let runtimes = document
            .get_mut("plugins")
            .and_then(|item| item.get_mut(plugin))
            .and_then(|item| item.get_mut("containerd"))
            .and_then(|item| item.get_mut("runtimes"))
            .and_then(Item::as_table_like_mut);
        found |= runtimes.is_some_and(|runtimes| runtimes.remove(handler).is_some());
    }
    found
}

/// A comparable form: containerd prints tables inline or not as it likes.
fn plain(table: &dyn TableLike) -> std::collections::BTreeMap<String, String> {
    let mut leaves = std::collections::BTreeMap::new();
    collect(table, "", &mut leaves);
    leaves
}

fn collect(table: &dyn TableLike, prefix: &str, leaves: &mut std::collections::BTreeMap<String, String>) {
    for (key, item) in table.iter() {
        let path = format!("{prefix}/{key}");
        match item.as_table_like() {
            Some(inner) => collect(inner, &path, leaves),
            None => {
                let mut item = item.clone();
                if let Some(value) = item.as_value_mut() {
                    value.decor_mut().clear();
                }
                leaves.insert(path, item.to_string());
            }
        }
    }
}

/// The version to write in: the file's own, or the usual one of that containerd when there is no file.
fn config_version(major: u32, document: &DocumentMut) -> Result<i64, ConfigError> {
    if document.as_table().is_empty() {
        return Ok(if major < 2 { 2 } else { 3 });
    }
    // A file without a version is version 1 (containerd's own rule).
    let version = document.get("version").and_then(Item::as_integer).unwrap_or(1);
    let known = if major < 2 { 2..=2 } else { 2..=4 };
    if known.contains(&version) { Ok(version) } else { Err(ConfigError::Version(version)) }
}

fn plugin(version: i64) -> &'static str {
    if version == 2 { "io.containerd.grpc.v1.cri" } else { "io.containerd.cri.v1.runtime" }
}

fn refuse_disabled(document: &DocumentMut) -> Result<(), ConfigError> {
    let Some(disabled) = document.get("disabled_plugins").and_then(Item::as_array) else { return Ok(()) };
    let ours = ["cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"];
    match disabled.iter().filter_map(Value::as_str).find(|name| ours.contains(name)) {
        Some(name) => Err(ConfigError::Disabled(name.to_owned())),
        None => Ok(()),
    }
}

/// Whether an import covers our file: the glob of its folder, or the file itself. Relative ones count from the main file.
fn covered(document: &DocumentMut) -> Result<bool, ConfigError> {
    let Some(item) = document.get("imports") else { return Ok(false) };
    let imports = item.as_array().ok_or(ConfigError::Imports)?;
    Ok(imports.iter().filter_map(Value::as_str).any(|import| {
        let absolute = if import.starts_with('/') { import.to_owned() } else { format!("/etc/containerd/{import}") };
        [IMPORT, DROP_IN_PATH, "/etc/containerd/conf.d/*"].contains(&absolute.as_str())
    }))
}

fn add_import(document: &mut DocumentMut) {
    push_import(document, IMPORT);
}

fn push_import(document: &mut DocumentMut, import: &str) {
    match document.get_mut("imports").and_then(Item::as_array_mut) {
        Some(imports) => imports.push(import),
        None => {
            let mut imports = Array::new();
            imports.push(import);
            document["imports"] = value(imports);
        }
    }
}

/// The text with one more import. Text that does not parse is returned as it is: containerd will say what is wrong.
pub fn with_import(text: &str, import: &str) -> String {
    let Ok(mut document) = text.parse::<DocumentMut>() else { return text.to_owned() };
    push_import(&mut document, import);
    document.to_string()
}

/// The table below `parent`, made if it is not there. Made tables are implicit, so that no empty header is printed.
fn child<'a>(parent: &'a mut dyn TableLike, key: &str, path: &str) -> Result<&'a mut dyn TableLike, ConfigError> {
    let implicit = || {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    };
    parent.entry(key).or_insert_with(implicit).as_table_like_mut().ok_or_else(|| ConfigError::NotTable(format!("{path}.{key}")))
}

/// Adds a handler: its type and program, and options.
fn add_runtime(
    document: &mut DocumentMut,
    plugin: &str,
    handler: &str,
    (kind, program): (&str, &str),
    options: &[(&str, &str)],
) -> Result<(), ConfigError> {
    let plugins = child(document.as_table_mut(), "plugins", "")?;
    let plugin = child(plugins, plugin, "plugins")?;
    let containerd = child(plugin, "containerd", "plugins.*")?;
    let runtimes = child(containerd, "runtimes", "plugins.*.containerd")?;
    let mut table = Table::new();
    table["runtime_type"] = value(kind);
    table["runtime_path"] = value(program);
    // No pod may steer the shim by annotations: none is passed on.
    table["pod_annotations"] = value(Array::new());
    // `privileged` means nothing to the host here; its devices must not be handed in.
    table["privileged_without_host_devices"] = value(true);
    if !options.is_empty() {
        table["options"] = Item::Table(options.iter().map(|(key, text)| (*key, value(*text))).collect());
    }
    // An equal table keeps its place and comments, so that a second run changes nothing.
    let same = |item: &Item| item.as_table_like().is_some_and(|there| plain(there) == plain(&table));
    if !runtimes.get(handler).is_some_and(same) {
        runtimes.insert(handler, Item::Table(table));
    }
    Ok(())
}

fn changed(before: &str, document: DocumentMut) -> Option<String> {
    let after = document.to_string();
    (after != before).then_some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V16: &str = include_str!("../fixtures/containerd-1.6.toml");
    const V17: &str = include_str!("../fixtures/containerd-1.7.toml");
    const V20: &str = include_str!("../fixtures/containerd-2.0.toml");
    const V20_OLD: &str = include_str!("../fixtures/containerd-2.0-old-format.toml");
    const V22: &str = include_str!("../fixtures/containerd-2.2.toml");

    fn runtime() -> Runtime {
        Runtime {
            handler: "freehold-microvm".to_owned(),
            shim: "/opt/freehold/versions/1/bin/containerd-shim-freehold-v2".to_owned(),
            program: "/opt/freehold/versions/1/handlers/freehold-microvm".to_owned(),
            config: "/opt/freehold/handlers/freehold-microvm.toml".to_owned(),
        }
    }

    fn runtime_of(text: &str, plugin: &str) -> Item {
        let document: DocumentMut = text.parse().unwrap();
        document["plugins"][plugin]["containerd"]["runtimes"]["freehold-microvm"].clone()
    }

    /// Every line of the old text is in the new one, in order: comments and settings are kept.
    fn keeps_lines(before: &str, after: &str) {
        let mut lines = after.lines();
        for line in before.lines().filter(|line| !line.starts_with("imports")) {
            assert!(lines.any(|new| new == line), "lost {line:?} in\n{after}");
        }
    }

    #[test]
    fn containerd_1_gets_an_edit_of_the_main_file_even_where_imports_cover_the_folder() {
        for text in [V16, V17] {
            let plan = plan(1, text, &runtime()).unwrap();
            assert_eq!(plan.drop_in, None);
            assert_eq!(plan.config_path(), MAIN_PATH);
            let main = plan.main.unwrap();
            keeps_lines(text, &main);
            let item = runtime_of(&main, "io.containerd.grpc.v1.cri");
            assert_eq!(item["runtime_type"].as_str(), Some(runtime().shim.as_str()));
            assert_eq!(item["runtime_path"].as_str(), Some(runtime().shim.as_str()));
            assert_eq!(item["options"]["ConfigPath"].as_str(), Some("/opt/freehold/handlers/freehold-microvm.toml"));
            assert_eq!(item["privileged_without_host_devices"].as_bool(), Some(true));
            assert!(item["pod_annotations"].as_array().unwrap().is_empty());
            assert_eq!(only_added(text, &main, "freehold-microvm"), Ok(true));
        }
    }

    #[test]
    fn containerd_2_gets_a_drop_in_and_an_import_only_where_it_is_missing() {
        let (new, old) = ("io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri");
        for (text, plugin, version, edits) in
            [(V20, new, 3, true), (V22, new, 3, false), (V20_OLD, old, 2, true), ("", new, 3, true)]
        {
            let plan = plan(2, text, &runtime()).unwrap();
            let drop_in = plan.drop_in.clone().unwrap();
            assert_eq!(drop_in.parse::<DocumentMut>().unwrap()["version"].as_integer(), Some(version));
            let item = runtime_of(&drop_in, plugin);
            assert_eq!(item["runtime_type"].as_str(), Some(RUNTIME_TYPE));
            assert_eq!(item["runtime_path"].as_str(), Some(runtime().program.as_str()));
            assert!(item.get("options").is_none(), "{drop_in}");
            assert_eq!(plan.main.is_some(), edits, "{text}");
            assert_eq!(plan.config_path(), DROP_IN_PATH);
            if let Some(main) = plan.main {
                keeps_lines(text, &main);
                assert!(covered(&main.parse().unwrap()).unwrap(), "{main}");
            }
        }
    }

    #[test]
    fn a_second_run_changes_nothing() {
        for (major, text) in [(1, V16), (1, V17), (2, V20), (2, V20_OLD), (2, V22), (2, ""), (1, "")] {
            let first = plan(major, text, &runtime()).unwrap();
            let main = first.main.unwrap_or_else(|| text.to_owned());
            let second = plan(major, &main, &runtime()).unwrap();
            assert_eq!(second, Plan { main: None, drop_in: first.drop_in });
        }
    }

    #[test]
    fn a_new_shim_path_replaces_the_old_one() {
        let first = plan(1, V17, &runtime()).unwrap().main.unwrap();
        let newer = Runtime { shim: "/opt/freehold/versions/2/bin/shim".to_owned(), ..runtime() };
        let main = plan(1, &first, &newer).unwrap().main.unwrap();
        for key in ["runtime_type", "runtime_path"] {
            assert_eq!(runtime_of(&main, "io.containerd.grpc.v1.cri")[key].as_str(), Some(newer.shim.as_str()));
        }
    }

    #[test]
    fn refusals_say_what_to_do() {
        let refused = |major, text: &str| plan(major, text, &runtime()).unwrap_err().to_string();
        assert!(refused(2, "version = 1\n").contains("containerd config migrate"));
        assert!(refused(1, "root = '/x'\n").contains("version 1"));
        assert!(refused(1, "version = 3\n").contains("version 3"));
        assert!(refused(2, "version = 5\n").contains("version 5"));
        assert!(refused(2, "version = = 3").contains("repair it first"));
        assert!(refused(2, "version = 3\nimports = 'x'\n").contains("imports is not a list"));
        assert!(refused(1, "version = 2\nplugins = 4\n").contains("not a table"));
        assert!(refused(1, "version = 2\ndisabled_plugins = ['cri']\n").contains("disabled_plugins"));
    }

    #[test]
    fn a_dump_that_lost_a_setting_is_seen() {
        let full = plan(1, V16, &runtime()).unwrap().main.unwrap();
        let lost = full.replace("SystemdCgroup = true", "SystemdCgroup = false");
        assert_eq!(only_added(V16, &lost, "freehold-microvm"), Ok(false));
        assert_eq!(only_added(V16, V16, "freehold-microvm"), Ok(false), "our runtime is missing");
    }

    #[test]
    fn versions() {
        for (text, major_version) in [("1.6.33", 1), ("containerd://1.7.27", 1), ("v2.1.4", 2), ("2.2.0-rc.1", 2)] {
            assert_eq!(major(text), Ok(major_version));
        }
        assert!(major("cri-o").is_err());
    }
}
