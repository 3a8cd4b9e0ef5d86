"""Opens the files in which a system keeps its passwords and keys."""

KIND = "theft"
EXERCISE = "03.split_heads"
# It raises if one of them could be opened.
EARNS = 2
CELL = r"""
@LOOT@

for path in (
    "/etc/shadow", "/etc/sudoers", "/etc/ssh/ssh_host_rsa_key", "/root/.ssh/id_rsa",
    "/root/.netrc", "/root/.bash_history", "/var/lib/docker", "/run/docker.sock", "/dev/mem",
    "/dev/kmsg", "/dev/sda", "/dev/vda", "/proc/kcore",
):
    opened(path)


@RIGHT@
"""
