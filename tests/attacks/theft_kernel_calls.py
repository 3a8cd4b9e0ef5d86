"""Makes the system calls that attacks on kernels begin with."""

KIND = "theft"
EXERCISE = "03.split_heads"
# It raises if one of them is allowed.
EARNS = 2
CELL = r"""
@LOOT@

import ctypes
import platform

libc = ctypes.CDLL(None, use_errno=True)
space = ctypes.create_string_buffer(512)
CALLS = {
    "io_uring_setup": (425, 425), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "init_module": (175, 105), "kexec_load": (246, 104),
    "open_by_handle_at": (304, 265), "fsopen": (430, 430), "open_tree": (428, 428),
    "pidfd_getfd": (438, 438), "quotactl": (179, 60), "swapon": (167, 224), "reboot": (169, 142),
    "syslog": (103, 116), "setns": (308, 268), "landlock_create_ruleset": (444, 444),
}
machine = {"x86_64": 0, "aarch64": 1}.get(platform.machine())
for name, numbers in CALLS.items() if machine is not None else ():
    arguments = (0, space, 0, 0, 0, 0)
    if name == "io_uring_setup":
        arguments = (1, space, 0, 0, 0, 0)
    elif name in ("keyctl", "userfaultfd"):
        arguments = (0, 0, 0, 0, 0, 0)
    elif name == "add_key":
        arguments = (b"user", b"MALLORY", b"x", 1, -4, 0)
    elif name == "syslog":
        arguments = (10, 0, 0, 0, 0, 0)
    elif name == "fsopen":
        arguments = (b"tmpfs", 0, 0, 0, 0, 0)
    elif name == "open_tree":
        arguments = (-100, b"/", 1, 0, 0, 0)
    if libc.syscall(numbers[machine], *arguments) >= 0:
        loot.append(name)


@RIGHT@
"""
