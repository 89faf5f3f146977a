"""Call a served model with OpenAI's client and with ours: start a server on the demo's model, ask, stream, and stop it.

pip install openai
python examples/openai_client.py [MODEL]
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import openai

from qianwen.chat import Message
from qianwen.chat.client import ChatClient

model = sys.argv[1] if len(sys.argv) > 1 else "runs/demo"
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
command = [sys.executable, "-m", "qianwen", "serve", f"demo={model}", "--port", str(port)]
server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
try:
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):  # a minute to read the weights
        if server.poll() is not None:
            sys.exit("the server ended: run the same command by hand to see why")
        with contextlib.suppress(httpx.TransportError):  # nobody listens yet, or listens and still reads weights
            if httpx.get(f"{url}/ready", trust_env=False).status_code == 200:
                break
        time.sleep(0.1)
    else:
        sys.exit("the server reads weights for more than a minute: look at it by hand")

    http = httpx.Client(trust_env=False)  # loopback needs no proxy
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=os.environ.get("QIANWEN_KEY", "none"), http_client=http)
    question = [{"role": "user", "content": "What is 12 + 30?"}]
    answer = client.chat.completions.create(model="demo", messages=question, max_tokens=40, temperature=0)
    print(answer.choices[0].message.content, f"({answer.usage.completion_tokens} tokens)")

    stream = client.chat.completions.create(model="demo", messages=question, max_tokens=40, stream=True)
    for chunk in stream:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()

    # The same calls as on a model in this process (examples/chat.py), for any URL of this API.
    with ChatClient(f"{url}/v1", "demo", os.environ.get("QIANWEN_KEY")) as remote:
        for delta in remote.chat([Message("user", "What is 12 + 30?")], max_tokens=40, temperature=0):
            print(delta.text, end="", flush=True)
    print()
finally:
    server.send_signal(signal.SIGTERM)  # it finishes what runs, then stops
    server.wait(40)
