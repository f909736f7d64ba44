//! Keys, as WebDriver writes them.

use serde_json::{Value, json};

/// To the next thing that takes keys.
pub const TAB: &str = "\u{e004}";
/// To the one before.
pub const SHIFT_TAB: &str = "\u{e008}\u{e004}\u{e008}";
/// The enter key.
pub const ENTER: &str = "\u{e007}";
/// The escape key.
pub const ESCAPE: &str = "\u{e00c}";
/// An arrow.
pub const LEFT: &str = "\u{e012}";
/// An arrow.
pub const UP: &str = "\u{e013}";
/// An arrow.
pub const RIGHT: &str = "\u{e014}";
/// An arrow.
pub const DOWN: &str = "\u{e015}";

/// Held from its first time to its second.
const SHIFT: char = '\u{e008}';

/// One key after the other, each let go before the next.
pub(super) fn pressed(keys: &str) -> Value {
    let mut actions = Vec::new();
    let mut is_held = false;
    for key in keys.chars() {
        let key_text = key.to_string();
        if key == SHIFT {
            is_held = !is_held;
            actions.push(json!({ "type": if is_held { "keyDown" } else { "keyUp" }, "value": key_text }));
        } else {
            actions.push(json!({ "type": "keyDown", "value": key_text }));
            actions.push(json!({ "type": "keyUp", "value": key_text }));
        }
    }
    json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] })
}
