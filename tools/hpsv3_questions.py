"""Writes user_text_template.txt, the text around a prompt that HPSv3 was trained with, from the authors' package (MIT licence):

    pip download --no-deps hpsv3==1.0.0
    python3 tools/hpsv3_questions.py hpsv3-1.0.0-py3-none-any.whl FOLDER

Nothing of the package is executed: two texts are read from its source. Every byte counts for the score, so the result is checked.
"""

import ast
import hashlib
import os
import sys
import zipfile

SOURCE = "hpsv3/dataset/data_collator_qwen.py"
SHA256 = "f6ee57479d4e9eee76b49c00dc962e1e696a5a2b3cc32cebd9b1fa76fe27502c"


def texts(source):
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            found[node.targets[0].id] = node.value.value
    return found


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    package, folder = sys.argv[1:]
    found = texts(zipfile.ZipFile(package).read(SOURCE))
    text = (found["INSTRUCTION"] + found["prompt_with_special_token"]).encode()
    if hashlib.sha256(text).hexdigest() != SHA256:
        sys.exit(f"{package}: the text differs from that of version 1.0.0")
    with open(os.path.join(folder, "user_text_template.txt"), "wb") as f:
        f.write(text)
