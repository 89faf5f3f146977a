"""Remove a folder that a hostile program filled, when no process of it is left.

Folders can be nested so deeply that their paths are too long for the kernel and a recursion is too deep for Python.
They can be without the right to be listed. So each folder is emptied into the top one, and no path has more than one
part.
"""

import os
import stat

LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def remove_folder(folder: str) -> None:
    """Remove a folder with all that is below it, if it is still there. Links are not followed."""
    try:
        top = os.open(folder, LIST)
    except FileNotFoundError:
        return
    prefix, number = os.urandom(8).hex(), 0  # of names that the program cannot have used
    try:
        while names := os.listdir(top):
            for name in names:
                if not _is_folder(name, top):
                    os.unlink(name, dir_fd=top)
                    continue
                inner = os.open(name, LIST, dir_fd=top)
                for child in os.listdir(inner):
                    if _is_folder(child, inner):
                        number += 1
                        os.rename(child, f"{prefix}{number}", src_dir_fd=inner, dst_dir_fd=top)
                    else:
                        os.unlink(child, dir_fd=inner)
                os.close(inner)
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(folder)


def _is_folder(name: str, above: int) -> bool:
    """Whether a name is that of a folder, which we may list and change from now on."""
    if not stat.S_ISDIR(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
        return False
    os.chmod(name, 0o700, dir_fd=above)
    return True
