"""Whether a click can reach a kernel that runs a cell, and a button for where it cannot.

    cell runs ── front end speaks of subshells, and has one ─> messages are heard meanwhile: a widget's button works
              └─ otherwise ─> they wait for the cell's end: a button that asks the server to interrupt the kernel

JupyterLab 4.4 and Notebook 7.4 and later send what widgets say to a subshell, a thread of the kernel that is free while
the main thread runs a cell (ipykernel 7). They make it when the first widget is shown, which takes them a moment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from jmr.progress.where import kernel_shell

__all__ = ["are_heard", "hear_by_any_shell", "interrupt_button", "kernel_id"]

#: Where there is no Jupyter server that could be asked.
HOW_ELSE = "■ stops it"
_KERNEL_FILE = re.compile(r"kernel-([0-9a-fA-F-]{36})\.json")

# The server's address and token are in the page. A page without them (VS Code, Colab) has a stop button of its own.
_ASK_THE_SERVER = """(button => {
const page = document.getElementById('jupyter-config-data');
const tell = () => { button.disabled = true; button.textContent = 'HOW_ELSE'; };
if (!page) return tell();
const config = JSON.parse(page.textContent);
const xsrf = /(?:^|; *)_xsrf=([^;]*)/.exec(document.cookie);
const headers = {'X-XSRFToken': xsrf ? xsrf[1] : ''};
if (config.token) headers.Authorization = 'token ' + config.token;
button.disabled = true;
button.textContent = 'Cancelling\u2026';
fetch(config.baseUrl + 'api/kernels/KERNEL_ID/interrupt', {method: 'POST', headers})
.then(answer => answer.ok || tell(), tell);
})(this)"""


def are_heard(parent: Mapping[str, Any] | None) -> bool | None:
    """Whether a widget's messages are heard while the main thread runs a cell.

    None: not yet; a front end that could make a subshell has made none. `parent` is the request that runs the cell.
    """
    shell = kernel_shell()
    if shell is None or parent is None or "subshell_id" not in parent.get("header", {}):
        return False
    thread = getattr(shell.kernel, "shell_channel_thread", None)
    if thread is None or not getattr(shell.kernel, "_supports_kernel_subshells", False):
        return False
    return True if thread.manager.list_subshell() else None


def hear_by_any_shell(widget: Any) -> None:
    """Let the front end choose who hears a widget.

    ipykernel 7.4 has what is said to a comm heard where the comm was last written to. For a widget that is made in a
    running cell that is the main shell: the one that does not listen. The name is private, and may go away.
    """
    if hasattr(widget.comm, "_reply_subshell_for"):
        widget.comm._reply_subshell_for = lambda data, default: default


def kernel_id() -> str | None:
    """The name by which a Jupyter server knows this kernel; None without such a server."""
    from ipykernel import get_connection_file

    try:
        found = _KERNEL_FILE.fullmatch(Path(get_connection_file()).name)
    except RuntimeError:  # a kernel without a connection file
        return None
    return found and found[1]


def interrupt_button(kernel: str | None) -> str:
    """HTML of a button that asks the server to interrupt the kernel; a hint where it could ask nobody."""
    if kernel is None:
        return f"<span class='jmr-dim'>{HOW_ELSE}</span>"
    script = _ASK_THE_SERVER.replace("KERNEL_ID", kernel).replace("HOW_ELSE", HOW_ELSE)
    return (
        f'<button class="jupyter-button widget-button jmr-cancel" onclick="{escape(script)}" '
        'title="Interrupts the kernel, as its stop button does">Cancel</button>'
    )
