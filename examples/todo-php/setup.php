<?php
// Makes the tables and, in an empty database, three users and three boards to play with. It is safe to run again.
declare(strict_types=1);

if (PHP_SAPI !== 'cli') {
    exit(1);
}
require __DIR__ . '/lib/config.php';
require __DIR__ . '/lib/db.php';

if (!is_dir(setting('TODO_VAR') . '/sessions')) {
    mkdir(setting('TODO_VAR') . '/sessions', 0700, true);
}

$sql = preg_replace('/^--.*$/m', '', file_get_contents(__DIR__ . '/schema.sql'));
if (db()->getAttribute(PDO::ATTR_DRIVER_NAME) === 'sqlite') {
    // Readers and the writer do not block each other. The file keeps this setting.
    db()->exec('PRAGMA journal_mode = WAL');
    $sql = preg_replace('/AUTO_INCREMENT/', 'AUTOINCREMENT', $sql);
    $sql = preg_replace('/\) ENGINE=[^;]*/', ')', $sql);
}
foreach (array_filter(array_map('trim', explode(';', $sql))) as $statement) {
    db()->exec($statement);
}

if ((int) one('SELECT COUNT(*) AS n FROM users')['n'] > 0) {
    exit(0);
}

// A demonstration: everybody knows this password, so keep the application on a loopback address.
$hash = password_hash('demo', PASSWORD_DEFAULT);
db()->beginTransaction();
foreach (['ada', 'ben', 'cleo'] as $n => $name) {
    run('INSERT INTO users (id, name, password_hash) VALUES (?, ?, ?)', [$n + 1, $name, $hash]);
}
$boards = [
    12 => ['Talk in June', [1, 2], ['Book the room', 'Rehearse with a timer', 'Print the handouts']],
    13 => ['Groceries', [1, 2, 3], ['Milk', 'Bread', 'Coffee beans']],
    14 => ['Cleo at home', [3], ['Water the plants']],
];
foreach ($boards as $id => [$name, $members, $titles]) {
    run('INSERT INTO boards (id, name, revision) VALUES (?, ?, ?)', [$id, $name, count($titles)]);
    foreach ($members as $member) {
        run('INSERT INTO members (board_id, user_id) VALUES (?, ?)', [$id, $member]);
    }
    foreach ($titles as $n => $title) {
        run('INSERT INTO items (board_id, title, version) VALUES (?, ?, ?)', [$id, $title, $n + 1]);
    }
}
db()->commit();
