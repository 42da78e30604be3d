"""Makes the Markdown tables of docs/performance.md from a CSV that benches/peers.py wrote.

    python3 benches/table.py docs/results/<run>/peers.csv

Each cell is GB/s and, in brackets, the share of the copy rate in the same run; the fastest of a row is bold.
"""

import csv
import json
import sys

ORDER = ["ours", "torch", "torch.compile", "liger", "unsloth"]


def main(path):
    cells, copies, rows_of = {}, {}, {}
    for row in csv.DictReader(open(path, newline="")):
        config = json.loads(row["extra_benchmark_config_str"])
        if row["metric_name"] != "speed" or "gb_per_s" not in config:
            continue
        key = (config["dtype"], int(row["x_value"]))
        rows_of[key] = config["n_rows"]
        if row["kernel_provider"] == "copy":
            copies[key] = config["gb_per_s"]
        else:
            mode = row["kernel_operation_mode"]
            cells[(mode, *key, row["kernel_provider"])] = config["gb_per_s"]
    for mode in ("forward", "backward"):
        for dtype in dict.fromkeys(key[0] for key in copies):
            print(f"\n{mode}, {dtype}\n")
            print("| n_rows x n_cols | copy | " + " | ".join(ORDER) + " |")
            print("|" + "---|" * (len(ORDER) + 2))
            for key in (key for key in copies if key[0] == dtype):
                rates = [cells.get((mode, *key, provider)) for provider in ORDER]
                best = max(rate for rate in rates if rate)
                texts = []
                for rate in rates:
                    text = f"{rate:.0f} ({rate / copies[key]:.0%})" if rate else ""
                    texts.append(f"**{text}**" if rate == best else text)
                print(f"| {rows_of[key]} x {key[1]} | {copies[key]:.0f} | " + " | ".join(texts) + " |")


if __name__ == "__main__":
    main(sys.argv[1])
