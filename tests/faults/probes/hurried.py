"""The command of uvicorn, with less patience for clients that read nothing."""

import os

from config import uvicorn_conf

uvicorn_conf.UNREAD_TIMEOUT = 1000 * int(os.environ["FAULTS_READ_TIMEOUT"])

if __name__ == "__main__":
    uvicorn_conf.main()
