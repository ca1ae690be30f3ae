use super::*;

#[test]
fn the_table_parses() {
    let table = parse(TABLE).unwrap();
    assert!(table.methods.len() > 50);
    for method in all() {
        assert_eq!(find(&method.path).unwrap().id, method.id);
        assert_eq!(all()[method.id].path, method.path);
    }
    assert!(find("/seldon.protos.Model/predict").is_none());
}
