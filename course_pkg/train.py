"""``course train`` in several processes, as ``torchrun`` starts them.

    torchrun --standalone --nproc-per-node 2 -m course_pkg.train --out FOLDER

takes the options of ``course train``. This file is only a program: the name ``course_pkg.train``
is the function ``course_pkg.training.train``, and importing a module must not hide it.
"""

from course_pkg.cli import main_train

if __name__ not in ("__main__", "__mp_main__"):
    raise ImportError(
        "course_pkg.train is a program for torchrun's -m and no module. The function is "
        "`from course_pkg import train`."
    )
if __name__ == "__main__":
    main_train()
