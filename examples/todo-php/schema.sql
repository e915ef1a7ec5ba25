-- One schema for SQLite and MySQL: setup.php writes AUTO_INCREMENT as SQLite spells it and drops what MySQL wants
-- behind the brackets.

CREATE TABLE IF NOT EXISTS users (
    id INTEGER PRIMARY KEY AUTO_INCREMENT,
    name VARCHAR(40) NOT NULL UNIQUE,
    password_hash VARCHAR(255) NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

-- revision counts the changes of a board. Each change writes it into the item as its version, so a version says
-- which of two changes is the newer one, also when they reach a browser in the other order.
CREATE TABLE IF NOT EXISTS boards (
    id INTEGER PRIMARY KEY AUTO_INCREMENT,
    name VARCHAR(80) NOT NULL,
    revision INTEGER NOT NULL DEFAULT 0
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE IF NOT EXISTS members (
    board_id INTEGER NOT NULL,
    user_id INTEGER NOT NULL,
    PRIMARY KEY (board_id, user_id),
    FOREIGN KEY (board_id) REFERENCES boards (id),
    FOREIGN KEY (user_id) REFERENCES users (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE IF NOT EXISTS items (
    id INTEGER PRIMARY KEY AUTO_INCREMENT,
    board_id INTEGER NOT NULL,
    title VARCHAR(200) NOT NULL,
    done SMALLINT NOT NULL DEFAULT 0,
    version INTEGER NOT NULL,
    FOREIGN KEY (board_id) REFERENCES boards (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

-- The item after a change that a script has asked for, by the user and the key of the change: for an hour, the same
-- request gets the same answer, and does not change anything.
CREATE TABLE IF NOT EXISTS answers (
    name VARCHAR(80) NOT NULL PRIMARY KEY,
    item TEXT NOT NULL,
    at INTEGER NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
