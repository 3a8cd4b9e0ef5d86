"""The system calls that a student's code may not make.

A filter is made with libseccomp (through ``pyseccomp``) and loaded in the sandbox just before the
student's code runs. Where libseccomp is missing there is none, and the grader says so: what it
stops besides is then stopped by the namespaces, the limits and the lost capabilities alone.
"""

import errno
import tempfile

# No new program and no new process (threads are allowed), no socket, nothing that reaches into
# another process, no namespace, no mount, no key ring, and none of the calls that only ever serve
# to attack a kernel. An unknown name is one that this libseccomp or this processor does not have.
_REFUSED = (
    "execve", "execveat", "fork", "vfork",
    "socket", "socketcall", "connect", "bind", "listen", "accept", "accept4", "sendmsg",
    "sendmmsg",
    "ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_open", "pidfd_getfd",
    "pidfd_send_signal",
    "process_madvise",
    "unshare", "setns", "mount", "umount", "umount2", "pivot_root", "chroot", "open_tree",
    "move_mount", "fsopen", "fsconfig",
    "fsmount", "fspick", "mount_setattr", "open_tree_attr",
    "add_key", "request_key", "keyctl",
    "mknod", "mknodat", "memfd_secret", "memfd_create", "userfaultfd",
    "bpf", "perf_event_open", "io_uring_setup", "io_uring_enter", "io_uring_register",
    "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot",
    "swapon", "swapoff",
    "acct", "quotactl", "quotactl_fd", "nfsservctl", "syslog", "settimeofday", "clock_settime",
    "clock_adjtime", "adjtimex",
    "stime", "sethostname", "setdomainname", "iopl", "ioperm", "vhangup", "personality",
    "lookup_dcookie",
    "name_to_handle_at", "open_by_handle_at", "fanotify_init", "fanotify_mark",
    "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "setfsuid",
    "setfsgid", "capset",
    "sched_setscheduler", "sched_setparam", "sched_setattr", "setpriority", "ioprio_set",
    "mbind", "migrate_pages", "move_pages", "set_mempolicy", "set_mempolicy_home_node",
    "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "vmsplice",
    "modify_ldt",
    "mq_open", "mq_unlink", "msgget", "semget", "shmget",
)  # fmt: skip
_CLONE_THREAD = 0x00010000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C


def program() -> bytes | None:
    """The filter as the kernel reads it, or ``None`` where libseccomp is missing."""
    try:
        import pyseccomp
    except (ImportError, OSError, RuntimeError):
        return None
    refuse = pyseccomp.ERRNO(errno.EPERM)
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    for name in _REFUSED:
        if pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) != -1:
            rules.add_rule(refuse, name)
    thread = _CLONE_THREAD
    rules.add_rule(refuse, "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, thread, 0))
    # Its flags are in memory, where no filter sees them; without it the C library takes clone.
    rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
    for request in (_TIOCSTI, _TIOCLINUX):  # to type on somebody's terminal
        rules.add_rule(refuse, "ioctl", pyseccomp.Arg(1, pyseccomp.MASKED_EQ, 0xFFFFFFFF, request))
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()
